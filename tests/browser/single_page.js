// An application without a server: from its own page it reads discovery, redeems the code, asks who signed in, revokes.
const [issuer, client_id, code_verifier, done] = arguments;
const form = (fields) => ({ method: "POST", body: new URLSearchParams({ client_id, ...fields }) });
(async () => {
  const metadata = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
  const { keys } = await (await fetch(metadata.jwks_uri)).json();
  const code = new URLSearchParams(location.search).get("code");
  const redirect_uri = location.origin + location.pathname;
  const grant = { grant_type: "authorization_code", code, code_verifier, redirect_uri };
  const { access_token } = await (await fetch(metadata.token_endpoint, form(grant))).json();
  const headers = { authorization: `Bearer ${access_token}` };
  const { email } = await (await fetch(metadata.userinfo_endpoint, { headers })).json();
  await fetch(metadata.revocation_endpoint, form({ token: access_token }));
  const { status: revoked } = await fetch(metadata.userinfo_endpoint, { headers });
  const introspect = await fetch(metadata.introspection_endpoint, form({})).then(() => "read", (error) => error.name);
  return { keys: keys.length, email, revoked, introspect };
})().then(done, (error) => done({ error: String(error) }));
