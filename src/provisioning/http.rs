//! Routes of provisioning.
