-- A fault is no decision: a tenant whose infrastructure does not answer is what it was, and unavailable besides.
ALTER TABLE tenants ADD COLUMN unavailable_since {time};
ALTER TABLE tenants ADD COLUMN unavailable_reason TEXT;

-- Which state may follow which, held by the database too, whoever writes. `tenants/rules.rs` has the same table.
-- only sqlite
CREATE TRIGGER tenants_status_known BEFORE INSERT ON tenants
WHEN NEW.status NOT IN ('provisioning', 'active', 'suspended', 'changing_tier', 'failed', 'offboarding', 'deleted')
BEGIN SELECT RAISE(ABORT, 'not a state of a tenant'); END;
CREATE TRIGGER tenants_status_follows BEFORE UPDATE OF status ON tenants
WHEN NEW.status <> OLD.status AND OLD.status || '>' || NEW.status NOT IN (
    'provisioning>active', 'provisioning>failed', 'provisioning>offboarding',
    'failed>active', 'failed>provisioning', 'failed>offboarding',
    'active>suspended', 'active>changing_tier', 'active>offboarding',
    'suspended>active', 'suspended>offboarding',
    'changing_tier>active', 'changing_tier>offboarding',
    'offboarding>deleted')
BEGIN SELECT RAISE(ABORT, 'this state of a tenant does not follow that one'); END;
-- only postgres
ALTER TABLE tenants ADD CONSTRAINT tenants_status_known CHECK (status IN
    ('provisioning', 'active', 'suspended', 'changing_tier', 'failed', 'offboarding', 'deleted'));
CREATE FUNCTION tenants_status_follows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> OLD.status AND OLD.status || '>' || NEW.status NOT IN (
        'provisioning>active', 'provisioning>failed', 'provisioning>offboarding',
        'failed>active', 'failed>provisioning', 'failed>offboarding',
        'active>suspended', 'active>changing_tier', 'active>offboarding',
        'suspended>active', 'suspended>offboarding',
        'changing_tier>active', 'changing_tier>offboarding',
        'offboarding>deleted')
    THEN RAISE EXCEPTION 'this state of a tenant does not follow that one' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER tenants_status_follows BEFORE UPDATE OF status ON tenants
    FOR EACH ROW EXECUTE FUNCTION tenants_status_follows();
-- both
