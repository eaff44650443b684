//! The confirmation before an action that cannot be undone.

use super::commands::Desk;
use super::terminal::Terminal;

#[test]
fn deletion_without_terminal_requires_yes_flag() {
    let desk = Desk::new(&[]);
    desk.run("tenant create acme").worked();
    desk.run("role create acme/ed").worked();
    desk.run("user create acme/sam").worked();
    for line in ["role delete acme/ed", "tenant delete acme --force", "user delete acme/sam"] {
        desk.fails(line, 2, "--yes");
    }
    desk.fails("revoke-tokens acme", 2, "Revoke all access tokens of acme?");
    desk.fails("revocations accept", 2, "--yes");
    desk.run("role show acme/ed").worked();
    desk.run("user delete acme/sam --preview").worked();
    desk.run("role delete acme/ed --yes").worked();
    desk.run("revoke-tokens acme -y").worked();
}

#[test]
fn deletion_on_terminal_asks_for_confirmation() {
    let desk = Desk::new(&[]);
    desk.run("tenant create acme").worked();
    desk.run("role create acme/ed").worked();
    let answered = |answer: &str| {
        let mut terminal = Terminal::start(desk.command("role delete acme/ed"), 200);
        terminal.until("[y/N] ");
        terminal.type_line(answer);
        terminal.finish()
    };
    for no in ["", "n", "maybe"] {
        let (code, screen) = answered(no);
        assert_eq!(code, Some(1), "{screen}");
        assert!(screen.contains("Delete acme/ed?") && screen.contains("nothing was changed"));
        desk.run("role show acme/ed").worked();
    }
    let (code, screen) = answered("y");
    assert_eq!(code, Some(0), "{screen}");
    assert_eq!(desk.run("role show acme/ed").code, Some(3));
}
