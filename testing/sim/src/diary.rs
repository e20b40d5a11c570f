//! What happened in a storm: one line of fixed width per change, to be read from the end.

use std::fmt::Write as _;

use crate::world::World;

/// The lines, and a hash over all that ever happened.
#[derive(Default)]
pub struct Diary {
    lines: Vec<String>,
    /// Equal for two runs of one seed, or something besides the seed decides.
    pub hash: u64,
}

impl Diary {
    /// The columns of every line.
    pub const HEAD: &str = "        time_us  nodes leaders                  sent acked  what";

    /// Notes what happens now. `nodes`: one letter each, `r`eady, `s`tarting, `d`own; `leaders`: of each group, node and term.
    pub fn note(&mut self, world: &World, sent: usize, acknowledged: usize, what: &str) {
        let state = |node: &crate::world::node::Node| match &node.life {
            None => 'd',
            Some(_) if node.is_ready() => 'r',
            Some(_) => 's',
        };
        let nodes: String = world.nodes.iter().map(state).collect();
        let mut leaders = String::new();
        for (number, node) in world.nodes.iter().enumerate() {
            for (group, term) in node.led() {
                let _ = write!(leaders, "{}:n{}@{term} ", group.0, number + 1);
            }
        }
        let line = format!("{:>15}  {nodes:<5} {leaders:<23} {sent:>5} {acknowledged:>5}  {what}", world.mono.as_us());
        self.hash = line.bytes().fold(self.hash ^ world.trace, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        self.lines.push(line);
    }

    /// The last `count` lines, under their head.
    pub fn tail(&self, count: usize) -> String {
        let first = self.lines.len().saturating_sub(count);
        std::iter::once(Self::HEAD).chain(self.lines[first..].iter().map(String::as_str)).collect::<Vec<_>>().join("\n")
    }
}
