//! Routes of tenants.
