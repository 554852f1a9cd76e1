"""The Python package Authlib: code with PKCE, refresh, client credentials, introspection, revocation, logout."""

import os
import re
from html import unescape
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import requests
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.jwk import KeySet

env = os.environ
issuer = env["TOLLGATE_URL"]
algorithm = env["TOLLGATE_ALG"]
redirect_uri = "http://127.0.0.1/callback"
metadata = requests.get(issuer + "/.well-known/openid-configuration").json()
keys = KeySet.import_key_set(requests.get(metadata["jwks_uri"]).json())


class Browser:
    """A person with a browser: follows redirections, keeps cookies, fills forms in."""

    def __init__(self):
        self.session = requests.Session()

    def open(self, url, form=None):
        while True:
            method = "GET" if form is None else "POST"
            reply = self.session.request(method, url, data=form, allow_redirects=False)
            if "location" not in reply.headers:
                return url, reply.text
            url, form = urljoin(url, reply.headers["location"]), None
            if urlsplit(url).path in ("/callback", "/signed-out"):
                return url, None

    def submit(self, url, html, **fields):
        action = unescape(re.search(r'<form[^>]* action="([^"]*)"', html)[1])
        hidden = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', html)
        return self.open(urljoin(url, action), {name: unescape(value) for name, value in hidden} | fields)

    def allow(self, url):
        url, html = self.open(url)
        while html is not None:
            if 'name="password"' in html:
                fields = {"email": env["TOLLGATE_EMAIL"], "password": env["TOLLGATE_PASSWORD"]}
            else:
                fields = {"decision": "allow"}
            url, html = self.submit(url, html, **fields)
        return url


def verified(token, audience):
    decoded = jwt.decode(token, keys, algorithms=[algorithm])
    registry = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": issuer}, aud={"essential": True, "value": audience}, exp={"essential": True}
    )
    registry.validate(decoded.claims)
    return decoded


def refused(call, error):
    try:
        call()
    except Exception as exception:  # Authlib has one class for all errors of RFC 6749.
        assert getattr(exception, "error", None) == error, exception
    else:
        raise AssertionError(f"{error} was expected")


def endpoint(session, url, token):
    reply = session.post(url, data={"token": token}, auth=(session.client_id, session.client_secret), withhold_token=True)
    assert reply.status_code == 200, reply.text
    return reply


for method in ("client_secret_basic", "none"):
    public = method == "none"
    client_id = env["TOLLGATE_PUBLIC_ID" if public else "TOLLGATE_CLIENT_ID"]
    session = OAuth2Session(
        client_id,
        None if public else env["TOLLGATE_CLIENT_SECRET"],
        scope="openid email offline_access usage:read",
        redirect_uri=redirect_uri,
        code_challenge_method="S256",
        token_endpoint_auth_method=method,
        token_endpoint=metadata["token_endpoint"],
    )
    verifier = "v" * 43
    url, state = session.create_authorization_url(
        metadata["authorization_endpoint"], code_verifier=verifier, nonce="a-nonce"
    )
    browser = Browser()
    back = browser.allow(url)
    query = parse_qs(urlsplit(back).query)
    assert query["iss"] == [issuer] and query["state"] == [state]
    token = session.fetch_token(authorization_response=back, code_verifier=verifier, state=state)
    identity = verified(token["id_token"], client_id).claims
    assert identity["nonce"] == "a-nonce" and identity["tenant_id"] == env["TOLLGATE_TENANT"]
    access = verified(token["access_token"], issuer)
    assert access.header["typ"] == "at+jwt" and access.claims["client_id"] == client_id
    user = session.get(metadata["userinfo_endpoint"]).json()
    assert user["sub"] == identity["sub"] and user["email"] == env["TOLLGATE_EMAIL"]
    assert session.get(issuer + "/sample/hello").status_code == 200

    before = token["refresh_token"]
    token = session.refresh_token(metadata["token_endpoint"], refresh_token=before)
    assert token["refresh_token"] != before
    if not public:
        assert endpoint(session, metadata["introspection_endpoint"], token["access_token"]).json()["active"] is True
        endpoint(session, metadata["revocation_endpoint"], token["refresh_token"])
        assert endpoint(session, metadata["introspection_endpoint"], token["access_token"]).json() == {"active": False}
        stale = token["refresh_token"]
        refused(lambda: session.refresh_token(metadata["token_endpoint"], refresh_token=stale), "invalid_grant")

    hint = urlencode({"id_token_hint": token.get("id_token") or "", "state": "bye",
                      "post_logout_redirect_uri": "http://127.0.0.1/signed-out"})
    left, html = browser.open(metadata["end_session_endpoint"] + "?" + hint)
    assert urlsplit(left).path == "/signed-out", html
    assert parse_qs(urlsplit(left).query)["state"] == ["bye"]

robot = OAuth2Session(env["TOLLGATE_ROBOT_ID"], env["TOLLGATE_ROBOT_SECRET"], scope="usage:read")
token = robot.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")
assert verified(token["access_token"], issuer).claims["sub"] == env["TOLLGATE_ROBOT_ID"]
wrong = OAuth2Session(env["TOLLGATE_ROBOT_ID"], "wrong")
refused(lambda: wrong.fetch_token(metadata["token_endpoint"], grant_type="client_credentials"), "invalid_client")
