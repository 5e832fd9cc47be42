CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL, 
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE seen_jti (
    issuer TEXT NOT NULL, 
    jti TEXT NOT NULL, 
    expires INTEGER NOT NULL, 
    PRIMARY KEY (issuer, jti)
)
 WITHOUT ROWID,
 STRICT;

CREATE INDEX seen_jti_expires ON seen_jti (expires);

INSERT INTO alembic_version (version_num) VALUES ('0001') RETURNING version_num;

CREATE TABLE task (
    id TEXT NOT NULL, 
    updated INTEGER NOT NULL, 
    body TEXT NOT NULL, 
    PRIMARY KEY (id)
)
 WITHOUT ROWID,
 STRICT;

CREATE INDEX task_updated ON task (updated);

UPDATE alembic_version SET version_num='0002' WHERE alembic_version.version_num = '0001';

ALTER TABLE task ADD COLUMN open INTEGER DEFAULT 0 NOT NULL;

ALTER TABLE task ADD COLUMN claimed_by TEXT;

ALTER TABLE task ADD COLUMN claimed_at INTEGER;

CREATE INDEX task_open ON task (updated) WHERE open = 1;

UPDATE alembic_version SET version_num='0003' WHERE alembic_version.version_num = '0002';

DROP INDEX task_open;

DROP INDEX task_updated;

ALTER TABLE task RENAME TO former_task;

CREATE TABLE task (
    id TEXT NOT NULL, 
    phase TEXT NOT NULL, 
    node TEXT NOT NULL, 
    chain TEXT NOT NULL, 
    touched REAL NOT NULL, 
    body TEXT NOT NULL, 
    owed TEXT, 
    record TEXT, 
    ended_by TEXT, 
    CONSTRAINT task_key PRIMARY KEY (id), 
    CONSTRAINT task_phase CHECK (phase IN ('held', 'sent', 'open', 'ended'))
)
 WITHOUT ROWID,
 STRICT;

CREATE INDEX task_going ON task (node) WHERE phase <> 'ended';

CREATE INDEX task_owed ON task (touched) WHERE owed IS NOT NULL;

CREATE INDEX task_ended ON task (touched) WHERE phase = 'ended';

CREATE TABLE turn (
    route TEXT NOT NULL, 
    name TEXT NOT NULL, 
    task TEXT, 
    epoch INTEGER NOT NULL, 
    touched REAL NOT NULL, 
    CONSTRAINT turn_key PRIMARY KEY (route, name)
)
 WITHOUT ROWID,
 STRICT;

CREATE INDEX turn_task ON turn (task);

CREATE TABLE request_key (
    partner TEXT NOT NULL, 
    "key" TEXT NOT NULL, 
    fingerprint TEXT NOT NULL, 
    task TEXT NOT NULL, 
    node TEXT NOT NULL, 
    touched REAL NOT NULL, 
    CONSTRAINT request_key_key PRIMARY KEY (partner, "key")
)
 WITHOUT ROWID,
 STRICT;

CREATE INDEX request_key_task ON request_key (task);

CREATE INDEX request_key_node ON request_key (node);

CREATE TABLE node (
    name TEXT NOT NULL, 
    chain TEXT NOT NULL, 
    expires REAL NOT NULL, 
    lapsed INTEGER NOT NULL, 
    CONSTRAINT node_key PRIMARY KEY (name)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE block (
    partner TEXT NOT NULL, 
    customer TEXT NOT NULL, 
    operator TEXT NOT NULL, 
    at REAL NOT NULL, 
    CONSTRAINT block_key PRIMARY KEY (partner, customer)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE bucket (
    "key" TEXT NOT NULL, 
    requests INTEGER NOT NULL, 
    seconds INTEGER NOT NULL, 
    level REAL NOT NULL, 
    granted INTEGER NOT NULL, 
    at REAL NOT NULL, 
    CONSTRAINT bucket_key PRIMARY KEY ("key")
)
 WITHOUT ROWID,
 STRICT;

INSERT INTO task (id, phase, node, chain, touched, body) SELECT id, CASE WHEN open = 1 THEN 'open' ELSE 'ended' END, '', COALESCE(json_extract(body, '$.trace.record.chain'), ''), updated, body FROM former_task;

INSERT OR IGNORE INTO turn (route, name, task, epoch, touched) SELECT json_extract(body, '$.trace.route'), names.value, former_task.id, 1, updated FROM former_task, json_each(body, '$.trace.names') AS names WHERE open = 1 AND json_extract(body, '$.trace.route') IS NOT NULL ORDER BY updated, former_task.id;

INSERT INTO node (name, chain, expires, lapsed) SELECT '', '', 0, 1 WHERE EXISTS (SELECT 1 FROM task WHERE phase <> 'ended');

DROP TABLE former_task;

UPDATE alembic_version SET version_num='0004' WHERE alembic_version.version_num = '0003';

DROP INDEX turn_task;

CREATE INDEX turn_task ON turn (task) WHERE task IS NOT NULL;

DROP INDEX task_going;

DROP INDEX task_owed;

DROP INDEX task_ended;

ALTER TABLE task RENAME TO former_task;

CREATE TABLE task (
    id TEXT NOT NULL, 
    phase TEXT NOT NULL, 
    node TEXT NOT NULL, 
    chain TEXT NOT NULL, 
    touched REAL NOT NULL, 
    body TEXT NOT NULL, 
    owed TEXT, 
    record TEXT, 
    ended_by TEXT, 
    CONSTRAINT task_key PRIMARY KEY (id), 
    CONSTRAINT task_phase CHECK (phase IN ('held', 'sent', 'open', 'ended'))
)
 STRICT;

INSERT INTO task (id, phase, node, chain, touched, body, owed, record, ended_by) SELECT id, phase, node, chain, touched, body, owed, record, ended_by FROM former_task ORDER BY touched, id;

DROP TABLE former_task;

CREATE INDEX task_going ON task (node) WHERE phase <> 'ended';

CREATE INDEX task_owed ON task (touched) WHERE owed IS NOT NULL;

CREATE INDEX task_ended ON task (touched) WHERE phase = 'ended';

UPDATE alembic_version SET version_num='0005' WHERE alembic_version.version_num = '0004';
