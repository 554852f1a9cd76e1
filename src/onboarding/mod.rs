//! Onboarding: brings a customer in (tenant → user → billing account → provisioning), takes it out again in the
//! reverse order, moves it between tiers, and manages its people. It owns registrations and orchestrates the services
//! that own the rest.
//!
//! Invariants: the facts of a registration (tenant, user, billing account) appear together or not at all, in one
//! transaction; provisioning follows and can be tried again; registering twice makes nothing twice; whatever was
//! interrupted by a crash goes on at the next start. Only an administrator's registration joins an existing tenant by
//! its name; public sign-up never does.

mod customer_http;
mod dunning;
pub mod error;
pub mod http;
mod invitation_http;
pub mod invitations;
mod invoice_export_http;
mod invoice_money_http;
mod me_http;
pub mod model;
mod named;
mod offboard;
mod pages;
pub mod people;
mod people_http;
mod portal_http;
pub mod rules;
mod service;
mod sign_up;
mod tier_change;
mod tier_change_http;

pub use dunning::Closed;
pub use error::Error;
pub use model::{Entrance, Invitation, Registration, RegistrationStatus, Request, Step, StepName, StepStatus};
pub use named::Named;
pub use people::NewMember;
pub use service::{Onboarding, Services, SignUps};
pub use sign_up::SignedUp;
pub use tier_change::{Move, TierChange};
