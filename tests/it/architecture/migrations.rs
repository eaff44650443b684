//! The rules of `migrations/README.md`, checked on each migration from 0017 on.

use std::fs;
use std::path::{Path, PathBuf};

/// Older ones were written before the rules, and cannot change.
const FIRST: u32 = 17;
/// From here on, each migration says which programs can use the schema.
const FIRST_COMPATIBLE: u32 = 19;

/// What the version before may use.
const REMOVALS: [&str; 10] = [
    "drop table",
    "drop column",
    "drop function",
    "drop trigger",
    "drop view",
    "drop constraint",
    "drop type",
    "rename to",
    "rename column",
    "set not null",
];

/// Marks of a statement that is right although it breaks a rule. The reason follows.
const CONTRACT: &str = "-- contract: ";
const SMALL: &str = "-- small table: ";
const OUTSIDE: &str = "-- no-transaction";
const OLDEST_PROGRAM: &str = "-- oldest-program: ";

/// A migration, with its comments and without them.
struct Source<'a> {
    number: u32,
    text: &'a str,
    statements: Vec<String>,
}

impl<'a> Source<'a> {
    fn new(number: u32, text: &'a str) -> Self {
        let code: Vec<_> = text.lines().map(|line| line.split("--").next().unwrap()).collect();
        let code = code.join(" ");
        // The body of a function is not run by the migration.
        let code: String = code.split("$$").step_by(2).collect::<Vec<_>>().join(" ");
        let statements = code.split(';').map(|statement| {
            statement.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
        });
        let statements = inside_triggers_removed(statements.filter(|s| !s.is_empty()).collect());
        Self { number, text, statements }
    }

    fn has_mark(&self, mark: &str) -> bool {
        let mut reasons = self.text.lines().filter_map(|line| line.trim().strip_prefix(mark));
        reasons.any(|reason| reason.split_whitespace().count() >= 3)
    }

    fn creates(&self, table: &str) -> bool {
        let create = format!("create table {table} ");
        self.statements.iter().any(|statement| format!("{statement} ").starts_with(&create))
    }
}

/// The statements of a trigger of SQLite (`begin …; …; end`) are not run by the migration.
fn inside_triggers_removed(statements: Vec<String>) -> Vec<String> {
    let mut inside = false;
    let mut outside = Vec::new();
    for statement in statements {
        let is_inside = inside;
        if statement.starts_with("create trigger") && statement.contains(" begin ") {
            inside = true;
            outside.push(statement.split(" begin ").next().unwrap().to_owned());
            continue;
        }
        if statement == "end" {
            inside = false;
            continue;
        }
        if !is_inside {
            outside.push(statement);
        }
    }
    outside
}

/// What is wrong with a migration.
fn faults(number: u32, text: &str, postgres: bool) -> Vec<String> {
    let source = Source::new(number, text);
    let mut faults = Vec::new();
    let mut fault = |text: String| faults.push(text);
    if !text.trim_start().starts_with("--") {
        fault("no comment at the top that says what it is for".to_owned());
    }
    let contract = source.has_mark(CONTRACT);
    for statement in &source.statements {
        // A trigger or function that is replaced at once stays.
        let replaced = source.statements.iter().any(|other| {
            statement.strip_prefix("drop trigger ").is_some_and(|name| {
                let name = name.split(' ').next().unwrap();
                other.starts_with(&format!("create trigger {name} "))
            })
        });
        for removal in REMOVALS {
            if statement.contains(removal) && !contract && !replaced {
                fault(format!(
                    "`{removal}` breaks the version before: mark it with `{CONTRACT}why`"
                ));
            }
        }
        if postgres
            && statement.contains("alter column")
            && statement.contains(" type ")
            && !contract
        {
            fault(format!(
                "`alter column … type` rewrites the table: mark it with `{CONTRACT}why`"
            ));
        }
        added_columns(statement, &mut fault);
        constraints(&source, statement, postgres, &mut fault);
        index(&source, statement, postgres, &mut fault);
    }
    mass_writes(&source, &mut fault);
    compatibility(&source, &mut fault);
    faults
}

fn added_columns(statement: &str, fault: &mut impl FnMut(String)) {
    if !statement.starts_with("alter table") {
        return;
    }
    for column in statement.split("add column").skip(1) {
        let (required, default) = (column.contains("not null"), column.split_once(" default "));
        if required && default.is_none() {
            fault("a new column that is `not null` needs a default".to_owned());
        }
        if default.is_some_and(|(_, default)| default.contains('(')) {
            fault("a default that is computed rewrites the table: use a constant".to_owned());
        }
    }
}

fn constraints(
    source: &Source<'_>,
    statement: &str,
    postgres: bool,
    fault: &mut impl FnMut(String),
) {
    let Some(rest) = statement.strip_prefix("alter table ") else { return };
    let is_new = source.creates(rest.split(' ').next().unwrap());
    let adds = ["add constraint", "add foreign key", "add check", "add unique", "add primary key"];
    let adds = adds.iter().any(|add| rest.contains(add));
    if postgres && adds && !is_new && !rest.contains("not valid") {
        fault(
            "a constraint reads the whole table under its lock: add it `not valid`, and validate it \
             in a later migration"
                .to_owned(),
        );
    }
}

fn index(source: &Source<'_>, statement: &str, postgres: bool, fault: &mut impl FnMut(String)) {
    let is_index =
        ["create index ", "create unique index "].iter().any(|s| statement.starts_with(s));
    if !is_index || !postgres {
        return;
    }
    let table =
        statement.split(" on ").nth(1).unwrap_or_default().split([' ', '(']).next().unwrap();
    let concurrent = statement.contains(" concurrently ");
    if concurrent && (!source.text.starts_with(OUTSIDE) || source.statements.len() != 1) {
        fault(format!("`concurrently` needs `{OUTSIDE}` as the first line, and a file of its own"));
    }
    if concurrent && statement.contains("if not exists") {
        fault("`if not exists` would accept an invalid index: leave it out".to_owned());
    }
    if !concurrent && !source.creates(table) && !source.has_mark(SMALL) {
        fault(format!(
            "an index of {table} holds up its writers: build it `concurrently`, or mark it with \
             `{SMALL}why`"
        ));
    }
}

fn mass_writes(source: &Source<'_>, fault: &mut impl FnMut(String)) {
    let changes_schema = |statement: &String| {
        ["create ", "alter ", "drop "].iter().any(|start| statement.starts_with(start))
    };
    let writes_many = |statement: &String| {
        statement.starts_with("update ")
            || statement.starts_with("delete ")
            || (statement.starts_with("insert ") && statement.contains(" select "))
    };
    let writes = source.statements.iter().any(writes_many);
    if writes && source.statements.iter().any(changes_schema) {
        fault(
            "it changes the schema and writes rows of a table: the locks last as long as the write; \
             let the server write the rows in batches"
                .to_owned(),
        );
    }
}

fn compatibility(source: &Source<'_>, fault: &mut impl FnMut(String)) {
    if source.number < FIRST_COMPATIBLE {
        return;
    }
    if source.text.starts_with(OUTSIDE) {
        // It has one statement, so the migrator adds the row.
        let oldest = source.text.lines().find_map(|line| line.strip_prefix(OLDEST_PROGRAM));
        if oldest.is_none_or(|oldest| oldest.trim().parse::<u32>().is_err()) {
            fault(format!(
                "it does not say which programs can use the schema: `{OLDEST_PROGRAM}18`"
            ));
        }
        return;
    }
    let row = format!("values ({}, ", source.number);
    let is_row =
        |s: &String| s.starts_with("insert into schema_compatibility ") && s.contains(&row);
    if !source.statements.iter().any(is_row) {
        fault(format!(
            "it does not say which programs can use the schema: insert ({}, the newest migration of \
             the last release) into schema_compatibility",
            source.number
        ));
    }
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn migrations_follow_the_rules() {
    let mut wrong = Vec::new();
    for (folder, postgres) in [("postgres", true), ("sqlite", false)] {
        for path in files(folder) {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let number: u32 = name.split('_').next().unwrap().parse().unwrap();
            if number < FIRST {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let found = faults(number, &text, postgres);
            wrong.extend(found.into_iter().map(|fault| format!("{folder}/{name}: {fault}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_rule_of_migrations_finds_its_fault() {
    const ROW: &str =
        "insert into schema_compatibility (migration, oldest_program) values (20, 18);";
    let found = |sql: &str| faults(20, &format!("-- Why.\n{sql};\n{ROW}"), true);
    for (sql, fault) in [
        ("drop table a", "drop table"),
        ("alter table a drop column b", "drop column"),
        ("alter table a rename to b", "rename to"),
        ("alter table a rename column b to c", "rename column"),
        ("alter table a alter column b set not null", "set not null"),
        ("drop function a(text)", "drop function"),
        ("drop trigger a on b", "drop trigger"),
        ("alter table a alter column b type text", "rewrites the table"),
        ("alter table a add column b bigint not null", "needs a default"),
        ("alter table a add column b text not null default gen_random_uuid()", "is computed"),
        ("alter table a add column b bigint not null default 0, add column c text not null", {
            "needs a default"
        }),
        ("alter table a add constraint b check (c > 0)", "not valid"),
        ("alter table a add foreign key (b) references c (d)", "not valid"),
        ("create index a on b (c)", "build it `concurrently`"),
        ("create unique index a on b (c)", "build it `concurrently`"),
        ("create index concurrently a on b (c)", "a file of its own"),
        ("alter table a add column b bigint; update a set b = 1", "in batches"),
        ("create table a (b bigint); insert into a (b) select c from d", "in batches"),
        ("create table a (b bigint); delete from c where d = 1", "in batches"),
    ] {
        let found = found(sql);
        assert!(found.len() == 1 && found[0].contains(fault), "{sql}: {found:?}");
    }
    let alone = faults(
        20,
        "-- no-transaction\n-- oldest-program: 18\ncreate index concurrently if not exists a on b (c);",
        true,
    );
    assert!(alone.len() == 1 && alone[0].contains("if not exists"), "{alone:?}");
    let silent = faults(20, "-- no-transaction\ncreate index concurrently a on b (c);", true);
    assert!(silent.len() == 1 && silent[0].contains("which programs can use"), "{silent:?}");
    let silent = faults(20, "-- Why.\ncreate table a (b bigint);", true);
    assert!(silent.len() == 1 && silent[0].contains("which programs can use"), "{silent:?}");
    let bare = faults(20, &format!("create table a (b bigint);\n{ROW}"), true);
    assert!(bare.len() == 1 && bare[0].contains("no comment"), "{bare:?}");
}

#[test]
fn migrations_that_expand_are_accepted() {
    const ROW: &str =
        "insert into schema_compatibility (migration, oldest_program) values (20, 18);";
    for (sql, postgres) in [
        ("create table a (b bigint not null primary key); create index a_by_b on a (b)", true),
        ("alter table a add column b bigint not null default 0, add column c text", true),
        ("alter table a add constraint b check (c > 0) not valid", true),
        ("-- small table: one row for each tenant\ncreate index a on b (c)", true),
        ("-- contract: version 18 no longer reads it\nalter table a drop column b", true),
        (
            "create function a() returns trigger language plpgsql as $$ begin update b set c = 1; \
          return null; end $$; create trigger d after insert on b for each row execute function a()",
            true,
        ),
        ("create trigger a after insert on b begin update c set d = 1; delete from e; end", false),
        ("drop trigger a; create trigger a after insert on b begin select 1; end", false),
        ("create index a on b (c)", false),
        ("update a set b = 1 where c = 2", true),
    ] {
        let found = faults(20, &format!("-- Why.\n{sql};\n{ROW}"), postgres);
        assert!(found.is_empty(), "{sql}: {found:?}");
    }
    let index =
        "-- no-transaction\n-- oldest-program: 18\n-- Why.\ncreate index concurrently a on b (c);";
    assert!(faults(20, index, true).is_empty());
}
