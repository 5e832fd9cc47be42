// Reads and cancels appointments upstream for partners with a token: njs 0.7.9 as Debian packages it.
const NOTICE = 48 * 3600 * 1000;
const FHIR = 'application/fhir+json; charset=utf-8';

function Refused(status, code) {
    this.status = status;
    this.code = code;
}

function decoded(part) {
    return JSON.parse(Buffer.from(part, 'base64url').toString());
}

async function identify(r) {
    const header = r.headersIn.Authorization;
    if (!header || !header.startsWith('Bearer ')) {
        throw new Refused(401, 'token-missing');
    }
    if (!told.remembers) {
        const claims = await proven(header);
        return claims.sub;
    }
    const verdict = await r.subrequest('/_verdict', {method: 'GET'});
    if (verdict.status !== 200) {
        throw new Refused(401, 'token-invalid');
    }
    return current(JSON.parse(verdict.responseText)).sub;
}

// An answer that nginx keeps: what a token says, once its signature is proven.
async function verify(r) {
    try {
        const claims = await proven(r.headersIn.Authorization);
        r.return(200, JSON.stringify(claims));
    } catch (error) {
        refuse(r, error);
    }
}

function current(claims) {
    if (claims.iss !== told.issuer || claims.aud !== told.issuer || !(claims.exp > Date.now() / 1000)) {
        throw new Refused(401, 'token-invalid');
    }
    return claims;
}

async function proven(header) {
    const parts = header.slice(7).split('.');
    let claims;
    try {
        if (parts.length !== 3 || decoded(parts[0]).alg !== 'ES256') {
            throw new Refused(401, 'token-invalid');
        }
        const key = await crypto.subtle.importKey(
            'spki', Buffer.from(told.spki, 'base64'), {name: 'ECDSA', namedCurve: 'P-256'}, false, ['verify']);
        const good = await crypto.subtle.verify(
            {name: 'ECDSA', hash: 'SHA-256'}, key, Buffer.from(parts[2], 'base64url'), `${parts[0]}.${parts[1]}`);
        if (!good) {
            throw new Refused(401, 'token-invalid');
        }
        claims = decoded(parts[1]);
    } catch (error) {
        throw new Refused(401, 'token-invalid');
    }
    return current(claims);
}

function granted(customer, partner, operation) {
    const grant = told.grants[customer];
    if (!grant || grant.partner !== partner || !grant.operations[operation]) {
        throw new Refused(403, 'no-grant');
    }
    return grant;
}

async function fetched(r, kind, id) {
    const answer = await r.subrequest(`/_read/${kind}/${id}`, {method: 'GET'});
    if (answer.status === 404) {
        throw new Refused(404, 'not-found');
    }
    if (answer.status !== 200) {
        throw new Refused(502, 'upstream-invalid');
    }
    return answer.responseText;
}

async function owned(r, grant, id) {
    const text = await fetched(r, 'Appointment', id);
    const appointment = JSON.parse(text);
    const patients = appointment.participant.filter(each => (each.actor.reference || '').startsWith('Patient/'));
    if (patients.length !== 1) {
        throw new Refused(404, 'not-found');
    }
    const found = await fetched(r, 'Patient', patients[0].actor.reference.slice(8));
    const patient = JSON.parse(found);
    if (!patient.managingOrganization || patient.managingOrganization.reference !== grant.organisation) {
        throw new Refused(404, 'not-found');
    }
    const labels = appointment.meta.security.filter(each => each.system.endsWith('/privacy-label'));
    if (!labels.every(each => grant.labels[each.code])) {
        throw new Refused(404, 'not-found');
    }
    return {text, appointment};
}

function checked(appointment, ifMatch) {
    const version = appointment.meta.versionId;
    if (ifMatch !== undefined && ifMatch.replace('W/', '') !== `"${version}"`) {
        throw new Refused(412, 'version-conflict');
    }
    if (appointment.status === 'cancelled') {
        throw new Refused(409, 'already-cancelled');
    }
    if (appointment.status !== 'booked') {
        throw new Refused(409, 'not-changeable');
    }
    if (Date.parse(appointment.start) < Date.now() + NOTICE) {
        throw new Refused(422, 'too-late');
    }
    return version;
}

function answer(r, version, text) {
    r.headersOut['Content-Type'] = FHIR;
    r.headersOut.ETag = `W/"${version}"`;
    r.return(200, text);
}

function refuse(r, error) {
    if (!(error instanceof Refused)) {
        r.error(`${error}`);
        error = new Refused(500, 'internal');
    }
    r.headersOut['Content-Type'] = FHIR;
    const issue = [{severity: 'error', code: 'processing', diagnostics: error.code}];
    r.return(error.status, JSON.stringify({resourceType: 'OperationOutcome', issue}));
}

async function read(r) {
    try {
        const path = r.uri.split('/');
        const partner = await identify(r);
        const grant = granted(path[1], partner, 'read');
        const found = await owned(r, grant, path[4]);
        answer(r, found.appointment.meta.versionId, found.text);
    } catch (error) {
        refuse(r, error);
    }
}

function reasonOf(r) {
    const parameters = JSON.parse(r.requestText).parameter || [];
    const given = parameters.find(each => each.name === 'reason');
    return given && given.valueCodeableConcept;
}

async function cancel(r) {
    try {
        const path = r.uri.split('/');
        const partner = await identify(r);
        const grant = granted(path[1], partner, 'cancel');
        const reason = reasonOf(r);
        if (!reason || !grant.reasons[reason.coding[0].code]) {
            throw new Refused(400, 'missing-parameter');
        }
        const found = await owned(r, grant, path[4]);
        const appointment = found.appointment;
        const version = checked(appointment, r.headersIn['X-Expected']);
        appointment.status = 'cancelled';
        appointment.cancelationReason = reason;
        r.variables.expected = `W/"${version}"`;
        const put = await r.subrequest(
            `/_write/Appointment/${path[4]}`, {method: 'PUT', body: JSON.stringify(appointment)});
        if (put.status === 409 || put.status === 412) {
            throw new Refused(412, 'version-conflict');
        }
        if (put.status !== 200) {
            throw new Refused(502, 'upstream-refused');
        }
        answer(r, JSON.parse(put.responseText).meta.versionId, put.responseText);
    } catch (error) {
        refuse(r, error);
    }
}

export default {read, cancel, verify};
