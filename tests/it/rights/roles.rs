//! Roles of an application appear in its tokens, so users can only give roles that they have.

use keyward::proto::admin as pb;

use super::{Acme, application_name, change, new_application};
use crate::harness::{Backend, on_both_databases, reason};

on_both_databases!(user_gives_an_application_only_their_own_roles);

async fn user_gives_an_application_only_their_own_roles(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    acme.admin.role("acme", "platform-admin", &[], &[]).await;
    let own = ["applications.view.own", "applications.create.own", "applications.edit.own"];
    let mut eve = acme.user("eve", &own, &["a"]).await;
    let with_roles = |id: &str, roles: &[&str]| pb::Application {
        name: application_name(id),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        ..Default::default()
    };
    let given = with_roles("crm", &["platform-admin"]);
    let create = new_application("crm", given.clone());
    let status = eve.applications.create_application(create.clone()).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED");
    assert!(status.message().contains("platform-admin"), "{}", status.message());

    let held = new_application("crm", with_roles("crm", &["eve"]));
    eve.applications.create_application(held).await.unwrap();
    let update = change(with_roles("crm", &["eve", "platform-admin"]), &["roles"]);
    let status = eve.applications.update_application(update.clone()).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED");
    // A role that the platform gave stays when a user changes other fields.
    acme.admin.applications.update_application(update).await.unwrap();
    let renamed = pb::Application { description: "new".to_owned(), ..with_roles("crm", &[]) };
    eve.applications.update_application(change(renamed, &["description"])).await.unwrap();
    let narrowed = change(with_roles("crm", &["platform-admin"]), &["roles"]);
    eve.applications.update_application(narrowed).await.unwrap();

    // Users with the role may give it, and also users who may give roles to users.
    let name = acme.admin.user("acme", "eve", &["eve", "platform-admin"]).await;
    let mut holder = acme.console.acting_for(&name);
    let second = new_application("second", given.clone());
    holder.applications.create_application(second).await.unwrap();
    let keeper = ["applications.create.own", "users.edit"];
    let mut keeper = acme.user("keeper", &keeper, &[]).await;
    keeper.applications.create_application(new_application("third", given)).await.unwrap();
}
