CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL, 
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE seen_jti (
    issuer TEXT NOT NULL, 
    jti TEXT NOT NULL, 
    expires BIGINT NOT NULL, 
    PRIMARY KEY (issuer, jti)
);

CREATE INDEX seen_jti_expires ON seen_jti (expires);

INSERT INTO alembic_version (version_num) VALUES ('0001') RETURNING alembic_version.version_num;

CREATE TABLE task (
    id TEXT NOT NULL, 
    updated BIGINT NOT NULL, 
    body TEXT NOT NULL, 
    PRIMARY KEY (id)
);

CREATE INDEX task_updated ON task (updated);

UPDATE alembic_version SET version_num='0002' WHERE alembic_version.version_num = '0001';

ALTER TABLE task ADD COLUMN open BIGINT DEFAULT 0 NOT NULL;

ALTER TABLE task ADD COLUMN claimed_by TEXT;

ALTER TABLE task ADD COLUMN claimed_at BIGINT;

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
    touched DOUBLE PRECISION NOT NULL, 
    body TEXT NOT NULL, 
    owed TEXT, 
    record TEXT, 
    ended_by TEXT, 
    CONSTRAINT task_key PRIMARY KEY (id), 
    CONSTRAINT task_phase CHECK (phase IN ('held', 'sent', 'open', 'ended'))
);

CREATE INDEX task_going ON task (node) WHERE phase <> 'ended';

CREATE INDEX task_owed ON task (touched) WHERE owed IS NOT NULL;

CREATE INDEX task_ended ON task (touched) WHERE phase = 'ended';

CREATE TABLE turn (
    route TEXT NOT NULL, 
    name TEXT NOT NULL, 
    task TEXT, 
    epoch BIGINT NOT NULL, 
    touched DOUBLE PRECISION NOT NULL, 
    CONSTRAINT turn_key PRIMARY KEY (route, name)
);

CREATE INDEX turn_task ON turn (task);

CREATE TABLE request_key (
    partner TEXT NOT NULL, 
    key TEXT NOT NULL, 
    fingerprint TEXT NOT NULL, 
    task TEXT NOT NULL, 
    node TEXT NOT NULL, 
    touched DOUBLE PRECISION NOT NULL, 
    CONSTRAINT request_key_key PRIMARY KEY (partner, key)
);

CREATE INDEX request_key_task ON request_key (task);

CREATE INDEX request_key_node ON request_key (node);

CREATE TABLE node (
    name TEXT NOT NULL, 
    chain TEXT NOT NULL, 
    expires DOUBLE PRECISION NOT NULL, 
    lapsed BIGINT NOT NULL, 
    CONSTRAINT node_key PRIMARY KEY (name)
);

CREATE TABLE block (
    partner TEXT NOT NULL, 
    customer TEXT NOT NULL, 
    operator TEXT NOT NULL, 
    at DOUBLE PRECISION NOT NULL, 
    CONSTRAINT block_key PRIMARY KEY (partner, customer)
);

CREATE TABLE bucket (
    key TEXT NOT NULL, 
    requests BIGINT NOT NULL, 
    seconds BIGINT NOT NULL, 
    level DOUBLE PRECISION NOT NULL, 
    granted BIGINT NOT NULL, 
    at DOUBLE PRECISION NOT NULL, 
    CONSTRAINT bucket_key PRIMARY KEY (key)
);

DROP TABLE former_task;

UPDATE alembic_version SET version_num='0004' WHERE alembic_version.version_num = '0003';

DROP INDEX turn_task;

CREATE INDEX turn_task ON turn (task) WHERE task IS NOT NULL;

UPDATE alembic_version SET version_num='0005' WHERE alembic_version.version_num = '0004';
