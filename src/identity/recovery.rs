//! A new password: by a link for who forgot the old one, or with the old one.
//!
//! Whoever asks for a link learns nothing of whether the email is known: the answer is the same, and so is the work.

use super::{
    error::Error,
    model::{PasswordHash, Session},
    password::check_strength,
    revocation::Revoked,
    service::{Identity, Withdrawal},
    sign_in::factor_owed,
    throttle::{Origin, Throttle},
};
use crate::{
    kernel::{Act, Actor, Email, PersonName, Secret, SessionId, UserId, ids::uuid_v7},
    mail::Letter,
    store::{Scope, Tx},
    users::User,
};

/// A link for a new password works this long, in seconds: an hour.
const RESET_TTL_S: i64 = 3_600;

impl Identity {
    /// Sends a link for a new password to an email that is known; says the same of any other.
    pub async fn ask_for_reset(&self, email: &Email, origin: &Origin) -> Result<(), Error> {
        self.count_letter(email, origin).await?;
        let now = self.clock.now();
        let token = self.new_secret();
        let mut tx = self.store.begin(Scope::Job("reset")).await?;
        let user = tx.user_by_email(email).await?;
        // To the address that is known: what was typed may be another's that only looks like it.
        let email = &user.as_ref().map_or_else(|| email.clone(), |user| user.email.clone());
        let letter = Letter {
            to: email.clone(),
            subject: "Choose a new password".to_owned(),
            text: format!(
                "Somebody, hopefully you, asked for a new password for {email}.\n\n\
                 Choose it here, within an hour:\n{}/reset?token={}\n\n\
                 If it was not you, there is nothing to do: your password stays as it is.\n",
                self.issuer(),
                token.expose()
            ),
        };
        // A link that is nobody's is written like anybody's, and its letter is taken back.
        let id = user.as_ref().map_or_else(|| UserId::generate(now, &*self.rng), |user| user.id);
        tx.reset_link_insert(&self.master.hash(&token), id, now, now.plus_secs(RESET_TTL_S)).await?;
        let mail = uuid_v7(now, &*self.rng);
        tx.mail_insert(mail, &letter, now).await?;
        if user.is_none() {
            tx.mail_forget(mail).await?;
        }
        self.note_try(&mut tx, "password.reset_asked", (email, user.map(|user| user.id)), origin).await?;
        tx.commit().await?;
        self.mail.wake();
        Ok(())
    }

    /// An error when too many letters were asked for to an email, or from an address, by people who need not say who they are.
    pub async fn count_letter(&self, email: &Email, origin: &Origin) -> Result<(), Error> {
        let counters = Throttle::letters(email, origin.address);
        match self.throttle.begin(&counters, self.clock.now()) {
            Ok(()) => Ok(()),
            Err(held) => Err(self.held_up(held, &counters, (email, "letter.throttled"), origin).await),
        }
    }

    /// Counts a sign-up that nothing but this holds back; an error when there were too many.
    pub async fn count_sign_up(&self, email: &Email, origin: &Origin) -> Result<(), Error> {
        let counters = Throttle::sign_ups(origin.address);
        match self.throttle.begin(&counters, self.clock.now()) {
            Ok(()) => Ok(()),
            Err(held) => Err(self.held_up(held, &counters, (email, "sign_up.throttled"), origin).await),
        }
    }

    /// Somebody proves that they are a known person: by the password, and a code where there is a second factor. A person
    /// without a password has none to show; who holds a letter that was sent to them may set it.
    pub async fn prove_or_set_password(
        &self,
        user: &User,
        password: &Secret,
        otp: Option<&Secret>,
        origin: &Origin,
    ) -> Result<Option<PasswordHash>, Error> {
        if self.store.read(Scope::Job("proof")).await?.credential(user.id).await?.is_none() {
            return Ok(Some(self.hash_new_password(password, &[user.email.as_str()]).await?));
        }
        self.check_password(&user.email, password, origin).await?;
        let factors = self.factors(user.id).await?;
        match (factors.any(), otp) {
            (false, _) => {}
            (true, None) => {
                self.note_alone(factor_owed(user, origin)).await?;
                return Err(Error::FactorNeeded { totp: factors.by_code() });
            }
            (true, Some(code)) => self.check_code(user.id, code).await?,
        }
        Ok(None)
    }

    /// Whose password a link is for; an error when it does not work.
    pub async fn account_of_reset_link(&self, token: &Secret) -> Result<Email, Error> {
        let hash = self.master.hash(token);
        let mut tx = self.store.read(Scope::Job("reset")).await?;
        let user = tx.reset_link(&hash, self.clock.now()).await?.ok_or(Error::InvalidLink)?;
        Ok(tx.user_by_id(user).await?.ok_or(Error::InvalidLink)?.email)
    }

    /// Sets a new password by a link, which works once, and ends every sign-in of its owner everywhere.
    pub async fn reset_password(&self, token: &Secret, password: &Secret) -> Result<(), Error> {
        let hash = self.master.hash(token);
        let mut tx = self.store.read(Scope::Job("reset")).await?;
        let user = tx.reset_link(&hash, self.clock.now()).await?.ok_or(Error::InvalidLink)?;
        let user = tx.user_by_id(user).await?.ok_or(Error::InvalidLink)?;
        drop(tx);
        // A password that is refused does not use the link up.
        let new = self.hash_new_password(password, &[user.email.as_str()]).await?;
        let mut tx = self.store.begin(Scope::Job("reset")).await?;
        let now = self.clock.now();
        if tx.reset_link_use(&hash, now).await? != Some(user.id) {
            return Err(Error::InvalidLink);
        }
        self.email_verified_in(&mut tx, user.id).await?;
        self.set_password_in(&mut tx, user.id, &new).await?;
        let withdrawal = self.sign_out_everywhere_in(&mut tx, user.id, "password reset").await?;
        self.note_password(&mut tx, &user, "password.reset").await?;
        self.tell_of_new_password(&mut tx, &user).await?;
        tx.commit().await?;
        self.revoke_now(withdrawal);
        self.mail.wake();
        Ok(())
    }

    /// Sets a new password with the old one. Every other sign-in of the person ends, and links for a new password work no
    /// more; `keep` is the one that asks.
    pub async fn change_password(
        &self,
        user: UserId,
        old: &Secret,
        new: &Secret,
        origin: &Origin,
        keep: Keep<'_>,
    ) -> Result<(), Error> {
        let user = self.store.read(Scope::Job("password")).await?.user_by_id(user).await?;
        let user = user.ok_or(Error::WrongCredentials)?;
        check_strength(new, &[user.email.as_str()])?;
        self.check_password(&user.email, old, origin).await?;
        let hash = self.hash_new_password(new, &[user.email.as_str()]).await?;
        let mut tx = self.store.begin(Scope::Job("password")).await?;
        self.set_password_in(&mut tx, user.id, &hash).await?;
        // Whoever can read the person's letters has no way back in.
        tx.reset_links_end(user.id, self.clock.now()).await?;
        let withdrawals = self.end_others_in(&mut tx, user.id, keep).await?;
        self.note_password(&mut tx, &user, "password.changed").await?;
        self.tell_of_new_password(&mut tx, &user).await?;
        tx.commit().await?;
        for withdrawal in withdrawals {
            self.revoke_now(withdrawal);
        }
        self.mail.wake();
        Ok(())
    }

    async fn note_password(&self, tx: &mut Tx, user: &User, action: &'static str) -> Result<(), Error> {
        let (actor, subject) = (Actor::User(user.id), user.id.to_string());
        self.note(tx, Act { actor, action, tenant: None, subject, detail: None }).await
    }

    async fn tell_of_new_password(&self, tx: &mut Tx, user: &User) -> Result<(), Error> {
        let text = format!(
            "The password of {} was changed just now.\n\nIf it was not you, choose another one at once:\n{}/reset\n",
            user.email,
            self.issuer()
        );
        let letter = Letter { to: user.email.clone(), subject: "Your password was changed".to_owned(), text };
        Ok(self.mail.enqueue_in(tx, &letter).await?)
    }

    /// Ends every sign-in of a person everywhere.
    async fn sign_out_everywhere_in(&self, tx: &mut Tx, user: UserId, reason: &str) -> Result<Withdrawal, Error> {
        tx.sign_ins_end_of_person(user, self.clock.now(), reason).await?;
        self.revoke_in(tx, Revoked::Person(user)).await
    }

    /// A person's email.
    pub async fn email_of(&self, user: UserId) -> Result<Email, Error> {
        let user = self.store.read(Scope::Job("account")).await?.user_by_id(user).await?;
        user.map(|user| user.email).ok_or(Error::InvalidLink)
    }

    /// A person.
    pub async fn person(&self, user: UserId) -> Result<User, Error> {
        let user = self.store.read(Scope::Job("account")).await?.user_by_id(user).await?;
        user.ok_or(Error::InvalidLink)
    }

    /// Calls a person as they wish; `None` takes the name back.
    pub async fn rename(&self, user: UserId, name: Option<&PersonName>) -> Result<(), Error> {
        let mut tx = self.store.begin(Scope::Job("account")).await?;
        tx.user_rename(user, name, self.clock.now()).await?;
        let (actor, subject) = (Actor::User(user), user.to_string());
        self.note(&mut tx, Act { actor, action: "user.renamed", tenant: None, subject, detail: None }).await?;
        Ok(tx.commit().await?)
    }

    /// A person's sign-ins that run, within the scope's reach.
    pub async fn own_sessions(&self, scope: Scope, user: UserId) -> Result<Vec<(Session, Option<String>)>, Error> {
        let mut tx = self.store.read(scope).await?;
        let mut sessions = Vec::new();
        for session in tx.sessions_of_user(user).await? {
            let client = match session.client_id {
                Some(id) => tx.client_name(id).await?,
                None => None,
            };
            sessions.push((session, client));
        }
        Ok(sessions)
    }

    /// A person's sign-ins that run, everywhere, for the person.
    pub async fn sessions_of_person(&self, user: UserId) -> Result<Vec<(Session, Option<String>)>, Error> {
        self.own_sessions(Scope::Job("account"), user).await
    }

    /// Ends one of a person's own sign-ins.
    pub async fn end_own_session(&self, scope: Scope, user: UserId, id: SessionId) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        let session = tx.session(id).await?.filter(|session| session.user_id == user);
        let session = session.ok_or(Error::UnknownSession(id))?;
        let withdrawals = self.end_in(&mut tx, Actor::User(user), &session).await?;
        tx.commit().await?;
        self.revoke_all_now(withdrawals);
        Ok(())
    }

    /// The same for the person, wherever it is.
    pub async fn end_session_of_person(&self, user: UserId, id: SessionId) -> Result<(), Error> {
        self.end_own_session(Scope::Job("account"), user, id).await
    }

    /// Ends all of a person's sign-ins but the one that asks.
    pub async fn end_other_sessions(&self, scope: Scope, user: UserId, keep: Keep<'_>) -> Result<usize, Error> {
        let mut tx = self.store.begin(scope).await?;
        let withdrawals = self.end_others_in(&mut tx, user, keep).await?;
        tx.commit().await?;
        let ended = withdrawals.len();
        self.revoke_all_now(withdrawals);
        Ok(ended)
    }

    /// The same for the person, wherever they are.
    pub async fn end_other_sessions_of_person(&self, user: UserId, keep: Keep<'_>) -> Result<usize, Error> {
        self.end_other_sessions(Scope::Job("account"), user, keep).await
    }

    async fn end_others_in(&self, tx: &mut Tx, user: UserId, keep: Keep<'_>) -> Result<Vec<Withdrawal>, Error> {
        let browser = match keep {
            Keep::Browser(secret) => Some(self.master.hash(secret)),
            Keep::Session(_) => None,
        };
        tx.browsers_delete_but(user, browser.as_ref()).await?;
        let mut withdrawals = Vec::new();
        let sessions = tx.sessions_of_user(user).await?;
        // A sign-in that was switched to another tenant goes on as long as the one it came from, which is the same person's
        // at the same place.
        let kept = match keep {
            Keep::Session(kept) => {
                let asks = sessions.iter().find(|session| session.id == kept);
                [Some(kept), asks.and_then(|session| session.parent_id)]
            }
            Keep::Browser(_) => [None, None],
        };
        for session in sessions {
            if !kept.contains(&Some(session.id)) {
                withdrawals.extend(self.end_in(tx, Actor::User(user), &session).await?);
            }
        }
        Ok(withdrawals)
    }
}

/// The sign-in that is not ended with the others.
#[derive(Debug, Clone, Copy)]
pub enum Keep<'a> {
    /// A session of tokens.
    Session(SessionId),
    /// A browser, by the secret of its cookie.
    Browser(&'a Secret),
}
