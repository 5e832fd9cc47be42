// Reads and cancels appointments upstream for partners with a token. One process; with DURABLE an audit on disk.
import { readFileSync } from 'node:fs'
import Fastify from 'fastify'
import jwt from '@fastify/jwt'
import pino from 'pino'
import { Pool } from 'undici'
import { Audit } from './audit.js'

const told = JSON.parse(readFileSync(process.env.PEER_CONFIG, 'utf8'))
const NOTICE = 48 * 3600 * 1000
const FHIR = 'application/fhir+json; charset=utf-8'

const app = Fastify({
  loggerInstance: pino(pino.destination({ dest: told.log, sync: false, minLength: 8192 })),
  disableRequestLogging: true
})
const audit = told.durable ? new Audit(told.audit) : null
const upstream = new Pool(`http://127.0.0.1:${told.upstream}`, { connections: 128, pipelining: 1 })

app.register(jwt, {
  secret: { public: told.publicKey },
  verify: { algorithms: ['ES256'], allowedIss: told.issuer, allowedAud: told.issuer, cache: true }
})
app.addContentTypeParser(FHIR.split(';')[0], { parseAs: 'string' }, app.getDefaultJsonParser('error', 'ignore'))

class Refused extends Error {
  constructor (status, code) {
    super(code)
    this.status = status
  }
}

let held = { token: '', until: 0 }
async function token () {
  if (Date.now() < held.until) return held.token
  const { statusCode, body } = await upstream.request({
    path: '/auth/token',
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: 'grant_type=client_credentials&client_id=peer&client_secret=secret'
  })
  const answer = await body.json()
  if (statusCode !== 200) throw new Refused(502, 'upstream-refused')
  held = { token: answer.access_token, until: Date.now() + 800 * answer.expires_in }
  return held.token
}

async function fetched (kind, id) {
  const { statusCode, body } = await upstream.request({
    path: `/fhir/${kind}/${id}`,
    method: 'GET',
    headers: { accept: 'application/fhir+json', authorization: `Bearer ${await token()}` }
  })
  const text = await body.text()
  if (statusCode === 404) throw new Refused(404, 'not-found')
  if (statusCode !== 200) throw new Refused(502, 'upstream-invalid')
  return text
}

function granted (customer, partner, operation) {
  const grant = Object.hasOwn(told.grants, customer) ? told.grants[customer] : undefined
  if (!grant || grant.partner !== partner || !grant.operations.includes(operation)) throw new Refused(403, 'no-grant')
  return grant
}

async function owned (grant, id) {
  const text = await fetched('Appointment', id)
  const appointment = JSON.parse(text)
  const patients = appointment.participant.map(each => each.actor.reference).filter(each => each?.startsWith('Patient/'))
  if (patients.length !== 1) throw new Refused(404, 'not-found')
  const patient = JSON.parse(await fetched('Patient', patients[0].slice(8)))
  if (patient.managingOrganization?.reference !== grant.organisation) throw new Refused(404, 'not-found')
  const labels = appointment.meta.security.filter(each => each.system.endsWith('/privacy-label'))
  if (!labels.every(each => grant.labels.includes(each.code))) throw new Refused(404, 'not-found')
  return { text, appointment }
}

function checked (appointment, ifMatch) {
  const version = appointment.meta.versionId
  if (ifMatch !== undefined && ifMatch.replace(/^W\//, '') !== `"${version}"`) throw new Refused(412, 'version-conflict')
  if (appointment.status === 'cancelled') throw new Refused(409, 'already-cancelled')
  if (appointment.status !== 'booked') throw new Refused(409, 'not-changeable')
  if (Date.parse(appointment.start) < Date.now() + NOTICE) throw new Refused(422, 'too-late')
  return version
}

async function record (request, event, more) {
  const line = { time: new Date(), event, request: request.id, partner: request.user?.sub, ...request.params, ...more }
  if (audit) await audit.append(line)
  else app.log.info(line)
}

app.addHook('onRequest', async request => {
  if (request.url === '/_ping') return
  try {
    await request.jwtVerify()
  } catch {
    throw new Refused(401, 'token-invalid')
  }
})

app.setErrorHandler(async (error, request, reply) => {
  const status = error.status ?? error.statusCode ?? 500
  await record(request, 'refused', { status, code: error.message })
  const issue = [{ severity: 'error', code: status === 500 ? 'exception' : 'processing', diagnostics: error.message }]
  return reply.code(status).type(FHIR).send(JSON.stringify({ resourceType: 'OperationOutcome', issue }))
})

app.get('/_ping', async () => 'up')

app.get('/:customer/fhir/Appointment/:id', async (request, reply) => {
  const { customer, id } = request.params
  const { text, appointment } = await owned(granted(customer, request.user.sub, 'read'), id)
  await record(request, 'read', { version: appointment.meta.versionId })
  return reply.header('etag', `W/"${appointment.meta.versionId}"`).type(FHIR).send(text)
})

app.post('/:customer/fhir/Appointment/:id/$cancel', async (request, reply) => {
  const { customer, id } = request.params
  const grant = granted(customer, request.user.sub, 'cancel')
  const reason = request.body?.parameter?.find(each => each.name === 'reason')?.valueCodeableConcept
  if (!grant.reasons.includes(reason?.coding?.[0]?.code)) throw new Refused(400, 'missing-parameter')
  const { appointment } = await owned(grant, id)
  const version = checked(appointment, request.headers['if-match'])
  appointment.status = 'cancelled'
  appointment.cancelationReason = reason
  if (audit) await record(request, 'intent', { version, reason: reason.coding[0].code })
  const { statusCode, headers, body } = await upstream.request({
    path: `/fhir/Appointment/${id}`,
    method: 'PUT',
    headers: {
      authorization: `Bearer ${await token()}`,
      'content-type': 'application/fhir+json',
      'if-match': `W/"${version}"`
    },
    body: JSON.stringify(appointment)
  })
  const text = await body.text()
  if (statusCode === 409 || statusCode === 412) throw new Refused(412, 'version-conflict')
  if (statusCode !== 200) throw new Refused(502, 'upstream-refused')
  await record(request, 'outcome', { outcome: 'applied', version: headers.etag })
  return reply.header('etag', headers.etag).type(FHIR).send(text)
})

await app.listen({ host: '127.0.0.1', port: told.port })
