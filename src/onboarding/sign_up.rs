//! Signing up by oneself: at once, or once the email is verified.
//!
//! Where emails are verified, nothing exists before: no tenant, no user, no name taken. Whoever signs up with an email that
//! is known, or for a customer that is there, gets the same answer; a letter says so to who reads that email, and to nobody
//! else. Into a tenant that is there come those alone whose email's domain its owners let in.

use serde::{Deserialize, Serialize};

use super::{
    error::Error,
    model::{Entrance, Registration, Request},
    service::Onboarding,
};
use crate::{
    billing::AddressBody,
    identity::{self, Origin},
    kernel::{Act, Actor, Faults, Secret},
    mail::Letter,
    store::{Scope, Tx},
};

/// The link of a sign-up works this long, in seconds: a day.
const LINK_TTL_S: i64 = 86_400;
const SCOPE: Scope = Scope::Job("sign-up");

/// What came of a sign-up.
#[derive(Debug)]
pub enum SignedUp {
    /// The customer is there.
    Done(Box<Registration>),
    /// A letter is on its way; nothing else happened.
    Unverified,
}

/// A sign-up as kept until its email is verified.
#[derive(Serialize, Deserialize)]
struct Kept {
    email: String,
    customer_name: String,
    billing_address: AddressBody,
    tier: String,
}

impl Kept {
    fn read(text: &str) -> Option<Request> {
        let Self { email, customer_name, billing_address, tier } = serde_json::from_str(text).ok()?;
        Some(Request {
            email: email.parse().ok()?,
            customer_name: customer_name.parse().ok()?,
            billing_address: billing_address.parse("billing_address", &mut Faults::new())?,
            tier: tier.parse().ok()?,
            password: None,
            external_id: None,
            entrance: Entrance::SignUp,
            key: None,
        })
    }
}

impl Onboarding {
    /// Registers a customer who came by themselves; or sends the letter that lets them.
    pub async fn sign_up(&self, request: Request, origin: &Origin) -> Result<SignedUp, Error> {
        if !self.sign_ups.verify_email {
            self.services.identity.count_sign_up(&request.email, origin).await?;
            return Ok(SignedUp::Done(Box::new(self.register(SCOPE, request).await?)));
        }
        let identity = &self.services.identity;
        let password = self.checked_password(&request).await?;
        let password = password.ok_or_else(|| identity::Error::WeakPassword("is required".to_owned()))?;
        identity.count_letter(&request.email, origin).await?;
        let token = identity.new_secret();
        let hash = identity.keyed_digest(token.expose().as_bytes());
        let kept = Kept {
            email: request.email.to_string(),
            customer_name: request.customer_name.to_string(),
            billing_address: request.billing_address.body().clone(),
            tier: request.tier.to_string(),
        };
        // Texts and options of texts.
        let kept = serde_json::to_string(&kept).unwrap_or_default();
        let now = self.clock.now();
        let mut tx = self.store.begin(SCOPE).await?;
        let letter = if tx.user_by_email(&request.email).await?.is_some() {
            self.letter_to_known(&request)
        } else if self.is_closed_to(&mut tx, &request).await? {
            Self::letter_to_stranger(&request)
        } else {
            self.letter_to_verify(&request, &token)
        };
        tx.sign_up_insert(&hash, &kept, &password, now, now.plus_secs(LINK_TTL_S)).await?;
        self.services.mail.enqueue_in(&mut tx, &letter).await?;
        let act = Act {
            actor: Actor::Anonymous,
            action: "sign_up.asked",
            tenant: None,
            subject: identity.email_subject(&request.email),
            detail: origin.address.map(|address| format!("from {address}")),
        };
        identity.note(&mut tx, act).await?;
        tx.commit().await?;
        self.services.mail.wake();
        Ok(SignedUp::Unverified)
    }

    fn letter_to_verify(&self, request: &Request, token: &Secret) -> Letter {
        let text = format!(
            "Somebody, hopefully you, signed up for {} with {}.\n\n\
             If it was you, say so here, within a day:\n{}/signup/verify?token={}\n\n\
             If it was not you, there is nothing to do: without the link there is no account.\n",
            request.customer_name,
            request.email,
            self.services.identity.issuer(),
            token.expose()
        );
        Letter { to: request.email.clone(), subject: "Finish signing up".to_owned(), text }
    }

    /// Whether the customer is there and lets nobody of the email's domain in.
    async fn is_closed_to(&self, tx: &mut Tx, request: &Request) -> Result<bool, Error> {
        let Some(tenant) = tx.tenant_by_customer_name(&request.customer_name).await? else { return Ok(false) };
        match request.email.domain() {
            Some(domain) => Ok(!tx.domain_lets_in(tenant.id, &domain).await?),
            None => Ok(true),
        }
    }

    fn letter_to_stranger(request: &Request) -> Letter {
        let text = format!(
            "Somebody, hopefully you, signed up for {} with {}.\n\n\
             There is a customer of that name already. If it is your organization, ask its administrator for an invitation; \
             if it is not, sign up under another name.\n\n\
             If it was not you, there is nothing to do.\n",
            request.customer_name, request.email,
        );
        Letter { to: request.email.clone(), subject: "Ask for an invitation".to_owned(), text }
    }

    fn letter_to_known(&self, request: &Request) -> Letter {
        let issuer = self.services.identity.issuer();
        let text = format!(
            "Somebody, hopefully you, signed up with {}, which has an account already.\n\n\
             Sign in: {issuer}/login\nForgot the password? {issuer}/reset\n\n\
             If it was not you, there is nothing to do.\n",
            request.email
        );
        Letter { to: request.email.clone(), subject: "You have an account already".to_owned(), text }
    }

    /// Whether the link of a sign-up works, and for which customer.
    pub async fn pending_sign_up(&self, token: &Secret) -> Result<Request, Error> {
        let hash = self.services.identity.keyed_digest(token.expose().as_bytes());
        let kept = self.store.read(SCOPE).await?.sign_up(&hash, self.clock.now()).await?;
        Ok(kept.as_deref().and_then(Kept::read).ok_or(identity::Error::InvalidLink)?)
    }

    /// Registers the customer whose email the link verifies. A refusal does not use the link up.
    pub async fn verify_sign_up(&self, token: &Secret) -> Result<Registration, Error> {
        let hash = self.services.identity.keyed_digest(token.expose().as_bytes());
        let request = self.pending_sign_up(token).await?;
        self.begin(SCOPE, request, None, Some(&hash)).await
    }
}
