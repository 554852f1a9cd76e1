//! Places of a tenant's own: a database, and a role of the same name that may do everything in it and nothing elsewhere.

use sqlx::Connection as _;

use super::{
    Missing, PostgresDriver,
    connecting::{
        Database, Failed, connect, connect_alone, connect_to, database, drop_database, drop_role, ensure_database,
        ensure_login, lock_out, quoted, role_exists, run,
    },
};
use crate::provisioning::model::Place;

impl PostgresDriver {
    pub(super) async fn make_siloed(&self, place: &Place) -> Result<(), Failed> {
        let name = self.database(place);
        let mut admin = connect_alone(&self.options, &name).await?;
        ensure_login(&mut admin, &name, place.password.as_ref()).await?;
        ensure_database(&mut admin, &name).await?;
        let mut own = connect(&self.options.clone().database(&name)).await?;
        let mut tx = own.begin().await?;
        let own_name = quoted(&name);
        run(
            &mut tx,
            format!(
                "REVOKE ALL ON DATABASE {own_name} FROM PUBLIC;
                 GRANT CONNECT, TEMPORARY ON DATABASE {own_name} TO {own_name};
                 REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE, CREATE ON SCHEMA public TO {own_name};"
            ),
        )
        .await?;
        run(&mut tx, self.schema.to_string()).await?;
        run(
            &mut tx,
            format!(
                "GRANT ALL ON ALL TABLES IN SCHEMA public TO {own_name};
                 GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {own_name};"
            ),
        )
        .await?;
        tx.commit().await?;
        own.close().await?;
        Ok(admin.close().await?)
    }

    pub(super) async fn missing_of_siloed(&self, place: &Place) -> Result<Missing, Failed> {
        let name = self.database(place);
        let mut admin = connect(&self.options).await?;
        let has_role = role_exists(&mut admin, &name).await?;
        let found = database(&mut admin, &name).await?;
        admin.close().await?;
        match (has_role, found) {
            (false, Database::Absent) => return Ok(Missing::Everything),
            (true, Database::Present) => {}
            (false, _) => return Ok(Missing::Something(format!("there is no role {name}"))),
            (true, Database::Absent) => return Ok(Missing::Something(format!("there is no database {name}"))),
            (true, Database::Broken) => return Ok(Missing::Something(format!("the database {name} is half made"))),
        }
        let Some(mut own) = connect_to(&self.options, &name).await? else { return Ok(Missing::Everything) };
        let rights = "SELECT rolcanlogin AND has_database_privilege($1, $1, 'CONNECT')
                AND has_schema_privilege($1, 'public', 'CREATE')
                AND NOT EXISTS (SELECT 1 FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
                    WHERE d.datname = $1 AND a.grantee = 0)
            FROM pg_roles WHERE rolname = $1";
        let all: bool = sqlx::query_scalar(rights).bind(&name).fetch_one(&mut own).await?;
        own.close().await?;
        Ok(if all {
            Missing::Nothing
        } else {
            Missing::Something(format!("the rights at {name} are not the tenant's alone"))
        })
    }

    pub(super) async fn take_down_siloed(&self, place: &Place) -> Result<(), Failed> {
        let name = self.database(place);
        let mut admin = connect_alone(&self.options, &name).await?;
        lock_out(&mut admin, &name).await?;
        drop_database(&mut admin, &name).await?;
        drop_role(&mut admin, &name).await?;
        Ok(admin.close().await?)
    }
}
