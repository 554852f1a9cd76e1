// Two issuers of other hands, in this process and beside it: npm oidc-provider (JWTs of two algorithms, opaque tokens with
// introspection) and cognito-local. Tokens that they gave open the gateway by the profile of each, and nothing else does.
//
// TOLLGATE_URL, OIDC_PORT and COGNITO_PORT say where everything is; the server's settings name both already.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import Provider from 'oidc-provider'
import { exportJWK, generateKeyPair } from 'jose'

const { TOLLGATE_URL, OIDC_PORT, COGNITO_PORT } = process.env
const POOL = 'local_Pool1'
const CLIENT = 'localclient'

const call = async (token) => {
  const answer = await fetch(`${TOLLGATE_URL}/sample/echo`, { headers: { authorization: `Bearer ${token}` } })
  return { status: answer.status, body: await answer.json() }
}

const key = async (alg) => {
  const { privateKey } = await generateKeyPair(alg, { extractable: true })
  return { ...await exportJWK(privateKey), alg, use: 'sig', kid: `own-${alg}` }
}

const form = async (url, fields, client) => {
  const answer = await fetch(url, {
    method: 'POST',
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      authorization: `Basic ${Buffer.from(`${client}:${client}-secret`).toString('base64')}`
    },
    body: new URLSearchParams(fields)
  })
  const body = await answer.json()
  assert.equal(answer.status, 200, JSON.stringify(body))
  return body
}

// npm oidc-provider.
const origin = `http://127.0.0.1:${OIDC_PORT}`
const api = (alg) => ({ scope: 'orders:read', audience: 'api', accessTokenFormat: 'jwt', jwt: { sign: { alg } } })
const resources = {
  'urn:es256': api('ES256'),
  'urn:rs256': api('RS256'),
  'urn:other': { ...api('ES256'), audience: 'another' },
  'urn:opaque': { scope: 'orders:read', audience: 'api', accessTokenFormat: 'opaque' }
}
const machine = (id) => ({
  client_id: id,
  client_secret: `${id}-secret`,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: []
})
const provider = new Provider(origin, {
  clients: [machine('robot'), machine('gate')],
  jwks: { keys: [await key('ES256'), await key('RS256')] },
  extraTokenClaims: () => ({ org: 'org_oidc' }),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: { enabled: true, getResourceServerInfo: (_, resource) => resources[resource] }
  }
})
const listening = provider.listen(Number(OIDC_PORT), '127.0.0.1')
await new Promise((done) => listening.once('listening', done))
const grant = (resource) =>
  form(`${origin}/token`, { grant_type: 'client_credentials', scope: 'orders:read', resource }, 'robot')
    .then((answer) => answer.access_token)

// cognito-local, with a pool and a client of known names.
const folder = mkdtempSync(join(tmpdir(), 'cognito-'))
mkdirSync(join(folder, '.cognito/db'), { recursive: true })
const now = new Date().toISOString()
const client = { UserPoolId: POOL, ClientName: 'app', ClientId: CLIENT, CreationDate: now, LastModifiedDate: now }
writeFileSync(join(folder, '.cognito/db/clients.json'), JSON.stringify({ Clients: { [CLIENT]: client } }))
writeFileSync(join(folder, `.cognito/db/${POOL}.json`), JSON.stringify({ Options: { Id: POOL }, Users: {} }))
const cognito = spawn(process.execPath, [resolve('node_modules/cognito-local/lib/bin/start.js')], {
  cwd: folder,
  env: { ...process.env, HOST: '127.0.0.1', PORT: COGNITO_PORT },
  stdio: 'ignore'
})

const aws = async (action, body) => {
  const answer = await fetch(`http://127.0.0.1:${COGNITO_PORT}/`, {
    method: 'POST',
    headers: {
      'content-type': 'application/x-amz-json-1.1',
      'x-amz-target': `AWSCognitoIdentityProviderService.${action}`,
      authorization: 'AWS4-HMAC-SHA256 Credential=local/20260101/local/cognito-idp/aws4_request'
    },
    body: JSON.stringify(body)
  })
  const said = await answer.json()
  assert.equal(answer.status, 200, `${action}: ${JSON.stringify(said)}`)
  return said
}

try {
  const keys = `http://127.0.0.1:${COGNITO_PORT}/${POOL}/.well-known/jwks.json`
  for (let tries = 0; ; tries += 1) {
    const up = await fetch(keys).then((answer) => answer.ok, () => false)
    if (up) break
    assert.ok(tries < 200, 'cognito-local does not listen')
    await new Promise((done) => setTimeout(done, 50))
  }
  const Username = 'ada@example.com'
  const UserAttributes = [{ Name: 'email', Value: Username }]
  await aws('AdminCreateUser', { UserPoolId: POOL, Username, UserAttributes, MessageAction: 'SUPPRESS' })
  await aws('AdminSetUserPassword', { UserPoolId: POOL, Username, Password: 'violet-Harbour-42', Permanent: true })
  await aws('CreateGroup', { UserPoolId: POOL, GroupName: 'org_cognito' })
  await aws('AdminAddUserToGroup', { UserPoolId: POOL, Username, GroupName: 'org_cognito' })
  const { AuthenticationResult: tokens } = await aws('InitiateAuth', {
    ClientId: CLIENT,
    AuthFlow: 'USER_PASSWORD_AUTH',
    AuthParameters: { USERNAME: Username, PASSWORD: 'violet-Harbour-42' }
  })

  // By its profile, each is let in for its own tenant.
  const seen = {}
  for (const [name, token] of Object.entries({
    es256: await grant('urn:es256'),
    rs256: await grant('urn:rs256'),
    opaque: await grant('urn:opaque'),
    cognito: tokens.AccessToken
  })) {
    const { status, body } = await call(token)
    assert.equal(status, 200, `${name}: ${JSON.stringify(body)}`)
    seen[name] = body.headers
  }
  assert.equal(seen.es256['x-user-id'], 'robot')
  assert.equal(seen.es256['x-tenant-id'], seen.rs256['x-tenant-id'])
  assert.equal(seen.es256['x-tenant-id'], seen.opaque['x-tenant-id'])
  assert.notEqual(seen.es256['x-tenant-id'], seen.cognito['x-tenant-id'])

  // An ID token, another API's token, and one that was taken back are not.
  const taken = await grant('urn:opaque')
  const revoked = await fetch(`${origin}/token/revocation`, {
    method: 'POST',
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      authorization: `Basic ${Buffer.from('robot:robot-secret').toString('base64')}`
    },
    body: new URLSearchParams({ token: taken })
  })
  assert.equal(revoked.status, 200)
  for (const [name, token] of Object.entries({
    id: tokens.IdToken,
    audience: await grant('urn:other'),
    revoked: taken,
    nobody: 'nobodys-token'
  })) {
    assert.equal((await call(token)).status, 401, name)
  }

  // Nor is one issuer's token under the other's name: its claims with `iss` changed, and its header with the other's kid.
  const decode = (token) => token.split('.').slice(0, 2).map((part) => JSON.parse(Buffer.from(part, 'base64url')))
  const encode = (object) => Buffer.from(JSON.stringify(object)).toString('base64url')
  const [oidc, cog] = [await grant('urn:rs256'), tokens.AccessToken]
  for (const [own, other] of [[oidc, cog], [cog, oidc]]) {
    const [[header, claims], [otherHeader, otherClaims]] = [decode(own), decode(other)]
    const signature = own.split('.')[2]
    for (const confused of [
      [header, { ...claims, iss: otherClaims.iss }],
      [otherHeader, claims],
      [otherHeader, { ...otherClaims, jti: 'other' }]
    ]) {
      assert.equal((await call(`${confused.map(encode).join('.')}.${signature}`)).status, 401)
    }
  }
  console.log('done')
} finally {
  cognito.kill()
  listening.close()
  listening.closeAllConnections()
}
