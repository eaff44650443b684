//! Output formats: tables that fit the terminal, selected columns, YAML, names.

use super::commands::Desk;
use super::terminal::Terminal;

/// A tenant with an application whose table is wide.
fn desk() -> Desk {
    let desk = Desk::new(&[]);
    desk.run("tenant create acme").worked();
    for scope in ["campaigns.read", "users.read"] {
        desk.run(&format!("scope create acme/{scope}")).worked();
    }
    let create = "application create acme/crm --display-name CRM --scope campaigns.read \
                  --scope users.read --description a-description-that-is-rather-long";
    desk.run(create).worked();
    desk
}

#[test]
fn table_fits_the_terminal() {
    let desk = desk();
    let screen = |line: &str, columns| {
        let (code, screen) = Terminal::start(desk.command(line), columns).finish();
        assert_eq!(code, Some(0), "{screen}");
        screen
    };
    let narrow = screen("application list acme", 60);
    let (table, note) = narrow.split_once("columns not shown: ").unwrap();
    for line in table.lines() {
        assert!(line.chars().count() <= 60, "{line}");
    }
    assert!(table.contains("acme/crm") && table.contains("active"), "{table}");
    assert!(note.contains("description") && note.contains("--wide"), "{note}");
    let broad = screen("application list acme", 400);
    assert!(broad.contains("a-description-that-is-rather-long"), "{broad}");
    assert!(!broad.contains("not shown") && !broad.contains("ETAG"), "{broad}");
    let wide = screen("application list acme --wide", 60);
    assert!(wide.contains("a-description-that-is-rather-long") && wide.contains("ETAG"), "{wide}");
    let piped = desk.run("application list acme");
    assert_eq!(piped.stderr, "");
    for part in ["DESCRIPTION", "a-description-that-is-rather-long", "CREATE_TIME", "UPDATE_TIME"] {
        assert!(piped.stdout.contains(part), "{part}: {piped:?}");
    }
}

#[test]
fn columns_are_selected_by_name() {
    let desk = desk();
    let table = desk.run("application list acme --columns state,name").worked();
    assert_eq!(table, "STATE   NAME\nactive  acme/crm\n");
    let part = desk.run("tenant show acme --columns policy.user_deletion").worked();
    assert_eq!(part, "policy.user_deletion  refuse\n");
    let json = desk.run("application list acme --columns state -o json").json();
    assert_eq!(json, serde_json::json!([{ "state": "active" }]));
    desk.fails("application list acme --columns stat", 2, "did you mean state?");
    desk.fails("application list acme --columns state --wide", 2, "cannot be used with");
}

#[test]
fn yaml_output_has_same_members_as_json() {
    let desk = desk();
    let columns = "--columns name,scopes,disabled_by_platform,expire_time,description";
    let show = format!("application show acme/crm -o yaml {columns}");
    desk.run("application update acme/crm --description yes").worked();
    let mut lines: Vec<_> = desk.run(&show).worked().lines().map(str::to_owned).collect();
    lines.sort();
    let wanted = [
        "- campaigns.read",
        "- users.read",
        "description: \"yes\"",
        "disabled_by_platform: false",
        "expire_time: null",
        "name: tenants/acme/applications/crm",
        "scopes:",
    ];
    assert_eq!(lines, wanted);
}

#[test]
fn name_output_prints_resource_names() {
    let desk = desk();
    desk.run("application create acme/old --display-name Old").worked();
    let names = desk.run("application list acme -o name").worked();
    assert_eq!(names, "tenants/acme/applications/crm\ntenants/acme/applications/old\n");
    assert_eq!(desk.run("role list acme -o name").worked(), "");
    let delete = format!("application delete --yes {}", names.trim().replace('\n', " "));
    desk.run(&delete).worked();
    assert_eq!(desk.run("application list acme -o name").worked(), "");
    desk.fails("audit list acme -o name --limit 1", 0, "there are more");
    desk.fails("usage acme/crm -o name", 3, "NOT_FOUND");
    desk.fails("config -o name", 2, "no resource names");
}

#[test]
fn truncated_list_says_how_to_see_more() {
    let desk = desk();
    let cut = desk.run("scope list acme --limit 1 -o name");
    assert_eq!(cut.stdout, "tenants/acme/scopes/campaigns.read\n");
    assert!(cut.stderr.contains("more than 1") && cut.stderr.contains("--limit 0"), "{cut:?}");
    let all = desk.run("scope list acme --limit 0 -o name");
    assert_eq!((all.stdout.lines().count(), all.stderr.as_str()), (2, ""));
}
