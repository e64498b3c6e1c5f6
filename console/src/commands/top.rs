//! The busiest instances, on the whole screen.
//!
//! Invariant: the screen is given back as it was, however this ends.

use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Row, Table};
use ratatui::{DefaultTerminal, Frame};
use skyhold::{InstanceReport, Node};
use tokio::sync::mpsc;

use super::look::{INSTANCE, instance_row};
use super::places::ask;
use crate::args::Where;
use crate::failure::Failure;
use crate::output::Output;

/// What is shown.
#[derive(Debug, Default)]
struct Screen {
    instances: Vec<InstanceReport>,
    nodes: usize,
    /// Who did not answer the last time.
    failures: Vec<String>,
}

/// Shows the instances until somebody ends it.
pub(super) async fn top(node: &Node, place: &Where, every: Duration, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return Err(Failure::Usage(
            "`top` is for a screen: `instances --json` gives the same once".to_owned(),
        ));
    }
    let mut screen = look(node, place).await?;
    let mut terminal = ratatui::try_init()?;
    let _restore = Restore;
    let (ends, mut is_ended) = mpsc::channel(1);
    std::thread::spawn(move || keys(&ends));
    loop {
        draw(&mut terminal, &screen)?;
        tokio::select! {
            _ = is_ended.recv() => return Ok(()),
            () = tokio::time::sleep(every) => {}
        }
        screen = look(node, place).await?;
    }
}

/// Gives the screen back.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Waits for the key that ends it.
fn keys(ends: &mpsc::Sender<()>) {
    while !ends.is_closed() {
        let Ok(true) = event::poll(Duration::from_millis(100)) else { continue };
        let Ok(Event::Key(key)) = event::read() else { continue };
        let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
        let is_end = matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) || is_interrupt;
        if key.kind == KeyEventKind::Press && is_end {
            let _ = ends.blocking_send(()); // who waited for it may have gone
            return;
        }
    }
}

async fn look(node: &Node, place: &Where) -> Result<Screen, Failure> {
    let answers = ask(node, place, |manager| async move { Ok(manager.instances().await?) }).await?;
    let mut screen = Screen { nodes: answers.len(), ..Screen::default() };
    for (node, answer) in answers {
        match answer {
            Ok(instances) => screen.instances.extend(instances),
            Err(_) => screen.failures.push(node.to_string()),
        }
    }
    let order = |instance: &InstanceReport| {
        let busy = (instance.waiting, instance.running.is_some(), instance.sojourn);
        (std::cmp::Reverse(busy), instance.service.clone(), instance.address.instance)
    };
    screen.instances.sort_by_key(order);
    Ok(screen)
}

fn draw(terminal: &mut DefaultTerminal, screen: &Screen) -> Result<(), Failure> {
    terminal.draw(|frame| screen.render(frame))?;
    Ok(())
}

impl Screen {
    fn render(&self, frame: &mut Frame<'_>) {
        let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(frame.area());
        let mut title = format!(
            "{} instances on {} nodes, {} messages wait",
            self.instances.len(),
            self.nodes,
            self.instances.iter().map(|instance| instance.waiting).sum::<usize>()
        );
        if !self.failures.is_empty() {
            title.push_str(&format!("; no answer from {}", self.failures.join(", ")));
        }
        frame.render_widget(Line::from(title + "  (q ends)"), head);
        let rows = self.instances.iter().take(usize::from(body.height)).map(|instance| {
            Row::new(instance_row(instance).into_iter().map(|field| field.replace(char::is_control, " ")))
        });
        let whole = [20, 12, 10, 8, 8, 8].map(Constraint::Length);
        let widths = whole.into_iter().chain([Constraint::Fill(1); 2]);
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let table = Table::new(rows, widths).header(Row::new(INSTANCE.to_vec()).style(bold));
        frame.render_widget(table, body);
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    #[tokio::test]
    async fn a_screen_shows_its_instances_and_who_did_not_answer() {
        let node = Node::builder("a").start().await.unwrap();
        let instances = node.manager().instances().await.unwrap();
        let screen = Screen { instances, nodes: 2, failures: vec!["b".to_owned()] };
        let mut terminal = Terminal::new(TestBackend::new(100, 4)).unwrap();
        terminal.draw(|frame| screen.render(frame)).unwrap();
        let shown: String =
            terminal.backend().buffer().content().iter().map(ratatui::buffer::Cell::symbol).collect();
        let lines: Vec<_> = shown.as_bytes().chunks(100).map(|line| String::from_utf8_lossy(line)).collect();
        assert!(
            lines[0].starts_with("1 instances on 2 nodes, 0 messages wait; no answer from b"),
            "{lines:?}"
        );
        assert!(lines[1].starts_with("SERVICE"), "{lines:?}");
        assert!(lines[2].starts_with("skyhold/manager") && lines[2].contains("instances"), "{lines:?}");
    }
}
