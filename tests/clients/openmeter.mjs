// OpenMeter's SDK for JavaScript against a server: TOLLGATE_URL, TOLLGATE_TOKEN (the administrator's), TOLLGATE_OWN_TOKEN
// (of a tenant's owner), TOLLGATE_TENANT (its id), TOLLGATE_OTHER (another tenant's). Ends with a failed assertion, or not.

import assert from 'node:assert/strict'
import { OpenMeter, HTTPError } from '@openmeter/sdk'
import { OpenMeter as Portal } from '@openmeter/sdk/portal'

const { TOLLGATE_URL: baseUrl, TOLLGATE_TENANT: tenant, TOLLGATE_OTHER: other } = process.env
const openmeter = new OpenMeter({ baseUrl, apiKey: process.env.TOLLGATE_TOKEN })
const own = new OpenMeter({ baseUrl, apiKey: process.env.TOLLGATE_OWN_TOKEN })

async function refused(status, call) {
  await assert.rejects(call, (error) => {
    assert(error instanceof HTTPError, String(error))
    assert.equal(error.status, status, error.message)
    assert(error.type && error.title && error.getField('detail'), 'a problem document')
    return true
  })
}

const minute = 60_000
const now = Math.floor(Date.now() / minute) * minute
// On half hours, where hours begin in Kolkata.
const hour = Math.floor(now / (60 * minute)) * 60 * minute
const from = new Date(hour - 48.5 * 60 * minute)
const to = new Date(hour + 90 * minute)
const event = (id, tokens, more = {}) => ({
  id, source: 'js', type: 'js-prompt', subject: tenant, time: new Date(now - 5 * minute),
  data: { tokens, model: 'large' }, ...more,
})

// Meters.
const meter = await openmeter.meters.create({
  slug: 'js_tokens', name: 'Tokens', description: 'Tokens used', aggregation: 'SUM', eventType: 'js-prompt',
  valueProperty: '$.tokens', groupBy: { model: '$.model' },
})
assert.equal(meter.slug, 'js_tokens')
assert(meter.createdAt instanceof Date && meter.updatedAt instanceof Date)
for (const [slug, aggregation] of [['js_count', 'COUNT'], ['js_unique', 'UNIQUE_COUNT'], ['js_avg', 'AVG'],
  ['js_min', 'MIN'], ['js_max', 'MAX'], ['js_latest', 'LATEST']]) {
  await openmeter.meters.create({ slug, aggregation, eventType: 'js-prompt', valueProperty: '$.tokens' })
}
assert.deepEqual(await openmeter.meters.get('js_tokens'), meter)
assert.deepEqual(await openmeter.meters.get(meter.id), meter)
assert((await openmeter.meters.list()).some((one) => one.slug === 'js_tokens'))
const updated = await openmeter.meters.update('js_tokens', { name: 'Tokens used', groupBy: { model: '$.model' } })
assert.equal(updated.name, 'Tokens used')
assert.equal(updated.description, 'Tokens used')
await refused(409, () => openmeter.meters.create({
  slug: 'js_tokens', aggregation: 'COUNT', eventType: 'js-prompt',
}))
await refused(400, () => openmeter.meters.create({ slug: 'js_bad', aggregation: 'SUM', eventType: 'js-prompt' }))
await refused(404, () => openmeter.meters.get('js_nothing'))
await refused(403, () => own.meters.create({ slug: 'js_own', aggregation: 'COUNT', eventType: 'x' }))

// Events: one, several, again, and one that contradicts.
assert.equal(await openmeter.events.ingest(event('1', 1.5)), undefined)
await openmeter.events.ingest([
  event('2', 2), event('3', '3', { time: new Date(now - 26 * 60 * minute) }),
  event('4', 10, { data: { tokens: 10, model: 'small' } }), event('5', 100, { subject: other }),
])
await openmeter.events.ingest(event('1', 1.5))
await own.events.ingest({ type: 'js-other', subject: tenant })
await refused(409, () => openmeter.events.ingest(event('1', 7)))
await refused(400, () => openmeter.events.ingest(event('6', 1, { subject: 'nobody' })))
await refused(403, () => own.events.ingest(event('7', 1, { subject: other })))
await refused(401, () => new OpenMeter({ baseUrl, apiKey: 'wrong' }).events.list())
await refused(401, () => new OpenMeter({ baseUrl }).events.list())

const listed = await openmeter.events.list({ from, to, customerId: [tenant], limit: 10 })
assert.deepEqual(listed.map((one) => one.event.id).filter((id) => id.length === 1).sort(), ['1', '2', '3', '4'])
const first = listed.find((one) => one.event.id === '1')
assert.deepEqual({ ...first.event, time: first.event.time.getTime() }, { ...event('1', 1.5), specversion: '1.0',
  time: now - 5 * minute })
assert.equal(first.customerId, tenant)
assert(first.ingestedAt instanceof Date && first.storedAt instanceof Date)
assert.equal((await openmeter.events.list({ id: '5', subject: other })).length, 1)

// Queries.
const whole = await openmeter.meters.query('js_tokens')
assert.deepEqual(whole.data.map(({ value, subject, groupBy }) => ({ value, subject, groupBy })),
  [{ value: 116.5, subject: null, groupBy: {} }])
const queried = async (query) => (await openmeter.meters.query('js_tokens', query)).data
const by = (rows, key) => Object.fromEntries(rows.map((row) => [key(row), row.value]))
assert.deepEqual(by(await queried({ groupBy: ['subject', 'model'] }), (row) => `${row.subject} ${row.groupBy.model}`),
  { [`${tenant} large`]: 6.5, [`${tenant} small`]: 10, [`${other} large`]: 100 })
assert.deepEqual(by(await queried({ subject: [tenant, other] }), (row) => row.subject), { [tenant]: 16.5, [other]: 100 })
assert.deepEqual(by(await queried({ subject: [tenant] }), (row) => row.subject), { [tenant]: 16.5 })
assert.deepEqual(by(await queried({ filterCustomerId: [other] }), (row) => row.customerId), { [other]: 100 })
assert.deepEqual((await queried({ filterGroupBy: { model: 'small' } })).map((row) => row.value), [10])
const hours = await openmeter.meters.query('js_tokens', { from, to, windowSize: 'HOUR', windowTimeZone: 'Asia/Kolkata' })
assert.equal(hours.windowSize, 'HOUR')
assert.deepEqual([hours.from, hours.to], [from, to])
assert.equal(hours.data.length, 2)
for (const row of hours.data) {
  assert.equal(row.windowEnd - row.windowStart, 60 * minute)
  assert.equal(row.windowStart.getUTCMinutes(), 30, 'hours of a zone that is half an hour off')
}
const before = await queried({ from, to: new Date(now - 5 * minute), subject: [tenant] })
assert.deepEqual(before.map((row) => row.value), [3], 'the end is exclusive')
const posted = await openmeter.meters.queryPost('js_tokens', {
  from, to, subject: [tenant], groupBy: ['model'], filterGroupBy: { model: ['large', 'small'] },
  advancedMeterGroupByFilters: { model: { $in: ['large'] } },
})
assert.deepEqual(by(posted.data, (row) => row.groupBy.model), { large: 6.5 })
for (const [slug, value] of [['js_count', 4], ['js_unique', 4], ['js_avg', 4.125], ['js_min', 1.5], ['js_max', 10],
  ['js_latest', 10]]) {
  const { data } = await openmeter.meters.query(slug, { subject: [tenant] })
  assert.equal(data[0].value, value, slug)
}
assert.deepEqual((await own.meters.query('js_tokens')).data.map((row) => row.value), [16.5])
await refused(403, () => own.meters.query('js_tokens', { subject: [other] }))
await refused(400, () => openmeter.meters.query('js_tokens', { windowSize: 'WEEK' }))
await refused(400, () => openmeter.meters.query('js_tokens', { groupBy: ['colour'] }))
await refused(404, () => openmeter.meters.query('js_nothing'))
assert.deepEqual((await openmeter.meters.listGroupByValues('js_tokens', 'model', { from, to })).sort(), ['large', 'small'])
// The SDK has no method for these two; its own client does.
const subjects = await openmeter.client.GET('/api/v1/meters/{meterIdOrSlug}/subjects',
  { params: { path: { meterIdOrSlug: 'js_tokens' } } })
assert.deepEqual(subjects.data.sort(), [tenant, other].sort())
const csv = await openmeter.client.GET('/api/v1/meters/{meterIdOrSlug}/query', {
  params: { path: { meterIdOrSlug: 'js_tokens' }, query: { subject: [tenant], groupBy: ['model'] } },
  headers: { Accept: 'text/csv' }, parseAs: 'text',
})
const lines = csv.data.trim().split('\r\n')
assert.equal(lines[0], 'window_start,window_end,subject,model,value')
assert.deepEqual(lines.slice(1).map((line) => line.split(',').slice(2).join(' ')), [`${tenant} large 6.5`,
  `${tenant} small 10`])

// What a customer may use: the plan has the feature `reports` and a quota of the meter `apis`.
const access = await openmeter.customers.getAccess(tenant)
assert.deepEqual(access.entitlements.reports, { hasAccess: true })
const apis = await openmeter.customers.entitlements.value(tenant, 'apis')
assert.deepEqual(apis, access.entitlements.apis)
assert.equal(apis.hasAccess, true)
assert.equal(apis.balance + apis.usage, apis.totalAvailableGrantAmount)
assert.equal(apis.overage, 0)
assert.deepEqual(await openmeter.customers.entitlementsV1.value(tenant, 'reports'), { hasAccess: true })
assert.deepEqual(await own.customers.getAccess(tenant), access)
await refused(404, () => own.customers.getAccess(other))
await refused(404, () => openmeter.customers.entitlements.value(tenant, 'teleporter'))

// The portal.
const token = await openmeter.portal.create({ subject: tenant, allowedMeterSlugs: ['js_tokens'] })
assert.equal(token.subject, tenant)
assert(token.expiresAt > new Date() && token.expired === false && token.id)
const portal = new Portal({ baseUrl, portalToken: token.token })
const shown = await portal.query('js_tokens', { from, to, groupBy: ['model'], filterGroupBy: { model: 'large' } })
assert.deepEqual(shown.data.map(({ value, subject, groupBy }) => ({ value, subject, groupBy })),
  [{ value: 6.5, subject: tenant, groupBy: { model: 'large' } }])
await refused(403, () => portal.query('js_count'))
await refused(401, () => new Portal({ baseUrl, portalToken: process.env.TOLLGATE_TOKEN }).query('js_tokens'))
await refused(401, () => new OpenMeter({ baseUrl, apiKey: token.token }).meters.query('js_tokens'))
await refused(403, () => own.portal.create({ subject: other }))

assert.equal(await openmeter.meters.delete('js_count'), undefined)
await refused(404, () => openmeter.meters.get('js_count'))
console.log('all of it')
