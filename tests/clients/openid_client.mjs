// The npm packages openid-client and jose: every grant, and what a resource server does with the tokens.
import assert from 'node:assert/strict';
import * as oidc from 'openid-client';
import * as jose from 'jose';

const env = process.env;
const issuer = new URL(env.TOLLGATE_URL);
const redirectUri = 'http://127.0.0.1/callback';
const insecure = { execute: [oidc.allowInsecureRequests] };

// A person with a browser: follows redirections, keeps cookies, fills forms in.
class Browser {
  cookies = new Map();

  async open(url, form) {
    for (;;) {
      const headers = { cookie: [...this.cookies].map((pair) => pair.join('=')).join('; ') };
      const body = form && new URLSearchParams(form);
      const reply = await fetch(url, { method: form ? 'POST' : 'GET', headers, body, redirect: 'manual' });
      for (const line of reply.headers.getSetCookie()) {
        const [name, value] = line.split(';')[0].split('=');
        this.cookies.set(name, value);
      }
      const location = reply.headers.get('location');
      if (!location) return { url, status: reply.status, html: await reply.text() };
      url = new URL(location, url);
      form = undefined;
      // The application's own address: nobody listens there, and nobody needs to.
      if (url.pathname === '/callback' || url.pathname === '/signed-out') return { url };
    }
  }

  // Sends the form of a page, its hidden fields and what is given.
  submit(page, fields) {
    const action = page.html.match(/<form[^>]* action="([^"]*)"/)[1].replaceAll('&amp;', '&');
    const hidden = [...page.html.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)"/g)];
    const unescape = (text) => text.replaceAll('&quot;', '"').replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');
    const form = Object.fromEntries(hidden.map(([, name, value]) => [name, unescape(value)]));
    return this.open(new URL(action, page.url), { ...form, ...fields });
  }

  // Signs in and allows what is asked, as far as that is needed.
  async allow(url) {
    let page = await this.open(url);
    while (page.html) {
      assert.equal(page.status, 200, page.html);
      if (page.html.includes('name="password"')) {
        page = await this.submit(page, { email: env.TOLLGATE_EMAIL, password: env.TOLLGATE_PASSWORD });
      } else {
        page = await this.submit(page, { decision: 'allow' });
      }
    }
    return page.url;
  }
}

async function discover(id, metadata, authentication) {
  const config = await oidc.discovery(issuer, id, metadata, authentication, insecure);
  // Signatures of ID tokens are checked although they came straight from the token endpoint.
  oidc.enableNonRepudiationChecks(config);
  return config;
}

const keys = jose.createRemoteJWKSet(new URL('/.well-known/jwks.json', issuer));
async function verify(token) {
  const options = { issuer: env.TOLLGATE_URL, audience: env.TOLLGATE_URL, typ: 'at+jwt', algorithms: [env.TOLLGATE_ALG] };
  const { payload } = await jose.jwtVerify(token, keys, options);
  return payload;
}

// Authorization code with PKCE; the URL may be made by `build`.
async function signIn(browser, config, parameters = {}, build = async (all) => oidc.buildAuthorizationUrl(config, all)) {
  const [verifier, state, nonce] = [oidc.randomPKCECodeVerifier(), oidc.randomState(), oidc.randomNonce()];
  const url = await build({
    redirect_uri: redirectUri, scope: 'openid email offline_access usage:read', state, nonce,
    code_challenge: await oidc.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256', ...parameters,
  });
  const back = await browser.allow(url);
  assert.equal(back.searchParams.get('iss'), env.TOLLGATE_URL);
  const checks = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, idTokenExpected: true };
  return oidc.authorizationCodeGrant(config, back, checks);
}

const isError = (code) => (error) => {
  assert.equal(error.error, code, error);
  return true;
};

for (const [id, secret] of [[env.TOLLGATE_PUBLIC_ID], [env.TOLLGATE_CLIENT_ID, env.TOLLGATE_CLIENT_SECRET]]) {
  const metadata = { id_token_signed_response_alg: env.TOLLGATE_ALG };
  const config = await discover(id, metadata, secret ? oidc.ClientSecretBasic(secret) : oidc.None());
  const browser = new Browser();
  const first = await signIn(browser, config);
  const claims = first.claims();
  assert.equal(claims.tenant_id, env.TOLLGATE_TENANT);
  const user = await oidc.fetchUserInfo(config, first.access_token, claims.sub);
  assert.equal(user.email, env.TOLLGATE_EMAIL);
  const access = await verify(first.access_token);
  assert.equal(access.client_id, id);
  assert.equal(access.tenant_id, env.TOLLGATE_TENANT);
  const call = await fetch(new URL('/sample/hello', issuer), { headers: { authorization: `Bearer ${first.access_token}` } });
  assert.equal(call.status, 200);

  const second = await oidc.refreshTokenGrant(config, first.refresh_token);
  assert.notEqual(second.refresh_token, first.refresh_token);
  assert.equal(second.claims().sub, claims.sub);
  if (secret) {
    const known = await oidc.tokenIntrospection(config, second.access_token);
    assert.equal(known.active, true);
    assert.equal(known.sub, claims.sub);
    assert.deepEqual(await oidc.tokenIntrospection(config, 'garbage'), { active: false });
  }
  await oidc.tokenRevocation(config, second.refresh_token);
  await assert.rejects(oidc.refreshTokenGrant(config, second.refresh_token), isError('invalid_grant'));
  if (secret) assert.equal((await oidc.tokenIntrospection(config, second.access_token)).active, false);

  // Somebody who is signed in needs no password again; somebody who signs out does.
  const third = await signIn(browser, config, {}, (all) => oidc.buildAuthorizationUrlWithPAR(config, all));
  const out = oidc.buildEndSessionUrl(config, {
    id_token_hint: third.id_token, post_logout_redirect_uri: 'http://127.0.0.1/signed-out', state: 'bye',
  });
  const left = await browser.open(out);
  assert.equal(left.url.pathname, '/signed-out', left.html);
  assert.equal(left.url.searchParams.get('state'), 'bye');
  await assert.rejects(oidc.refreshTokenGrant(config, third.refresh_token), isError('invalid_grant'));
  const again = await browser.open(oidc.buildAuthorizationUrl(config, { redirect_uri: redirectUri, scope: 'openid',
    code_challenge: await oidc.calculatePKCECodeChallenge(oidc.randomPKCECodeVerifier()), code_challenge_method: 'S256' }));
  assert.match(again.html, /name="password"/);
}

// A machine.
{
  const config = await discover(env.TOLLGATE_ROBOT_ID, undefined, oidc.ClientSecretPost(env.TOLLGATE_ROBOT_SECRET));
  const token = await oidc.clientCredentialsGrant(config, { scope: 'usage:write' });
  assert.equal(token.scope, 'usage:write');
  const claims = await verify(token.access_token);
  assert.equal(claims.sub, env.TOLLGATE_ROBOT_ID);
  await oidc.tokenRevocation(config, token.access_token);
  assert.equal((await oidc.tokenIntrospection(config, token.access_token)).active, false);
  const wrong = await discover(env.TOLLGATE_ROBOT_ID, undefined, oidc.ClientSecretBasic('wrong'));
  await assert.rejects(oidc.clientCredentialsGrant(wrong), (error) => error.status === 401);
}

// A client that registers itself, and a device without a keyboard.
{
  const config = await oidc.dynamicClientRegistration(issuer, {
    client_name: 'television', grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
    redirect_uris: [], response_types: [], token_endpoint_auth_method: 'none', scope: 'openid usage:read',
    id_token_signed_response_alg: env.TOLLGATE_ALG,
  }, oidc.None(), { initialAccessToken: env.TOLLGATE_INITIAL_TOKEN, ...insecure });
  const device = await oidc.initiateDeviceAuthorization(config, { scope: 'openid usage:read' });
  const polled = oidc.pollDeviceAuthorizationGrant(config, device);
  const browser = new Browser();
  let page = await browser.open(new URL(device.verification_uri_complete));
  for (let step = 0; step < 6 && /<form/.test(page.html); step += 1) {
    const fields = page.html.includes('name="password"')
      ? { email: env.TOLLGATE_EMAIL, password: env.TOLLGATE_PASSWORD }
      : page.html.includes('name="decision"') ? { decision: 'allow', tenant: env.TOLLGATE_TENANT } : { user_code: device.user_code };
    page = await browser.submit(page, fields);
  }
  const token = await polled;
  assert.equal((await verify(token.access_token)).tenant_id, env.TOLLGATE_TENANT);
}
