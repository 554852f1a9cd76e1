-- What a person may tell applications: a name, and since when we know that their email reaches them (OpenID Connect Core
-- section 5.1). `updated_at` is when either changed last; nothing where neither did.
ALTER TABLE users ADD COLUMN name TEXT;
ALTER TABLE users ADD COLUMN email_verified_at {time};
ALTER TABLE users ADD COLUMN updated_at {time};
