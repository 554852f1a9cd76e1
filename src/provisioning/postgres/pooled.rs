//! Places in a pool: a role for each tenant, in a database that all share. The role owns nothing and may do nothing but through a
//! group that may read and write rows; which rows is decided by who logged in, which no statement of theirs can change.

use sqlx::{Connection as _, PgConnection};

use super::{
    Missing, PostgresDriver,
    connecting::{
        Database, Failed, connect, connect_alone, connect_to, database, drop_role, ensure_database, ensure_group,
        ensure_login, literal, lock_out, quoted, role_exists, run,
    },
    moving::{delete_rows, tables},
};
use crate::provisioning::model::Place;

impl PostgresDriver {
    pub(super) async fn make_pooled(&self, place: &Place) -> Result<(), Failed> {
        let (role, pool) = (self.role(place), self.database(place));
        let mut admin = connect_alone(&self.options, &role).await?;
        self.prepare(&mut admin, &pool).await?;
        ensure_login(&mut admin, &role, place.password.as_ref()).await?;
        run(&mut admin, format!("GRANT {} TO {}", quoted(&pool), quoted(&role))).await?;
        Ok(admin.close().await?)
    }

    /// Sees to a pool's database, its group, of the same name, and its tables, once a process, and whenever it is gone.
    async fn prepare(&self, admin: &mut PgConnection, pool: &str) -> Result<(), Failed> {
        // One at a time; others wait until the tables are there.
        let mut prepared = self.prepared.lock().await;
        if database(admin, pool).await? == Database::Present && prepared.contains(pool) {
            return Ok(());
        }
        ensure_database(admin, pool).await?;
        ensure_group(admin, pool).await?;
        let mut own = connect(&self.options.clone().database(pool)).await?;
        let mut tx = own.begin().await?;
        // Two nodes that begin together would be in each other's way: the catalogue knows no `IF NOT EXISTS` that two can say at once.
        run(&mut tx, "SELECT pg_advisory_xact_lock(7310579)".to_owned()).await?;
        let group = quoted(pool);
        run(
            &mut tx,
            format!(
                "REVOKE ALL ON DATABASE {group} FROM PUBLIC; GRANT CONNECT ON DATABASE {group} TO {group};
                 REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO {group};
                 CREATE SCHEMA IF NOT EXISTS tollgate; GRANT USAGE ON SCHEMA tollgate TO {group};"
            ),
        )
        .await?;
        run(&mut tx, self.tenant_function()).await?;
        run(&mut tx, self.schema.to_string()).await?;
        for table in tables(&mut tx).await? {
            run(&mut tx, protect(&table.name, &group)).await?;
        }
        run(&mut tx, format!("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {group}")).await?;
        tx.commit().await?;
        own.close().await?;
        prepared.insert(pool.to_owned());
        Ok(())
    }

    /// Whose rows a session sees: of a tenant's own role its own, whatever it sets; of any other role that may read at all those
    /// of the tenant that it names for its transaction. `session_user` is who logged in: `SET ROLE` does not change it.
    fn tenant_function(&self) -> String {
        let (beginning, form) = (format!("{}_p_", self.prefix), format!("^{}_p_[0-9a-f]{{32}}$", self.prefix));
        format!(
            "CREATE OR REPLACE FUNCTION tollgate.tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
             SET search_path = pg_catalog, pg_temp
             AS $$ SELECT CASE WHEN session_user ~ {} THEN substr(session_user, {})::uuid
                 ELSE nullif(current_setting('app.tenant', true), '')::uuid END $$",
            literal(&form),
            beginning.len() + 1,
        )
    }

    pub(super) async fn missing_of_pooled(&self, place: &Place) -> Result<Missing, Failed> {
        let (role, pool) = (self.role(place), self.database(place));
        let mut admin = connect(&self.options).await?;
        let (has_role, has_database) =
            (role_exists(&mut admin, &role).await?, database(&mut admin, &pool).await? == Database::Present);
        let locked = "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1 AND NOT rolcanlogin)";
        let is_locked: bool = sqlx::query_scalar(locked).bind(&role).fetch_one(&mut admin).await?;
        let in_group = "SELECT EXISTS (SELECT 1 FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
            JOIN pg_roles r ON r.oid = m.member WHERE g.rolname = $1 AND r.rolname = $2)";
        let is_member: bool = sqlx::query_scalar(in_group).bind(&pool).bind(&role).fetch_one(&mut admin).await?;
        admin.close().await?;
        let bare = if has_database { self.unprotected(&pool).await? } else { None };
        Ok(match (has_role, has_database) {
            (false, _) => Missing::Everything,
            (true, false) => Missing::Something(format!("there is no database {pool}")),
            (true, true) if is_locked => Missing::Something(format!("the role {role} cannot log in")),
            (true, true) if !is_member => Missing::Something(format!("the role {role} is not in {pool}")),
            (true, true) => bare.map_or(Missing::Nothing, |table| {
                Missing::Something(format!("the table {table} is without forced row-level security"))
            }),
        })
    }

    /// A table of tenants that shows everybody everything.
    async fn unprotected(&self, pool: &str) -> Result<Option<String>, Failed> {
        let Some(mut own) = connect_to(&self.options, pool).await? else { return Ok(None) };
        let bare = tables(&mut own).await?.into_iter().find(|table| !table.protected);
        own.close().await?;
        if bare.is_some() {
            // Whoever makes a place there next sees to the tables, too.
            self.prepared.lock().await.remove(pool);
        }
        Ok(bare.map(|table| table.name))
    }

    pub(super) async fn take_down_pooled(&self, place: &Place) -> Result<(), Failed> {
        let (role, pool) = (self.role(place), self.database(place));
        let mut admin = connect_alone(&self.options, &role).await?;
        let is_there = lock_out(&mut admin, &role).await?;
        if let Some(mut own) = connect_to(&self.options, &pool).await? {
            delete_rows(&mut own, place.tenant_id).await?;
            if is_there {
                // What somebody granted it by hand would hold it.
                run(&mut own, format!("DROP OWNED BY {} CASCADE", quoted(&role))).await?;
            }
            own.close().await?;
        }
        drop_role(&mut admin, &role).await?;
        Ok(admin.close().await?)
    }
}

/// Statements that put a table under row-level security, its owner too, and let the group at it.
fn protect(table: &str, group: &str) -> String {
    format!(
        "ALTER TABLE public.{table} ENABLE ROW LEVEL SECURITY; ALTER TABLE public.{table} FORCE ROW LEVEL SECURITY;
         DROP POLICY IF EXISTS tollgate_tenant ON public.{table};
         CREATE POLICY tollgate_tenant ON public.{table}
             USING (tenant_id = (SELECT tollgate.tenant())) WITH CHECK (tenant_id = (SELECT tollgate.tenant()));
         GRANT SELECT, INSERT, UPDATE, DELETE ON public.{table} TO {group};"
    )
}
