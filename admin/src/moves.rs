//! Moves: which leads go where, so that every node has its share.

use uuid::Uuid;

use crate::picture::Picture;

/// The moves that spread the leads evenly over the reachable voters: group and target, by group.
///
/// The rule is the cluster's own for nodes that come and go (group number modulo nodes, nodes in order of id), so that what was spread
/// here is not moved again there.
pub fn even(picture: &Picture) -> Vec<(u32, Uuid)> {
    let there: Vec<Uuid> = picture.nodes.iter().filter(|node| node.reachable).map(|node| node.id).collect();
    let target = |group: u32| there.get(group as usize % there.len().max(1)).copied();
    let moves = picture.groups.iter().filter_map(|group| Some((group, target(group.number)?)));
    moves
        .filter(|(group, target)| group.leader != Some(*target) && group.voters.contains(target))
        .map(|(group, target)| (group.number, target))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::{Group, Node};
    use std::collections::BTreeMap;

    fn picture(reachable: [bool; 3], leaders: [u128; 5]) -> Picture {
        let node = |id: u128, reachable| Node {
            id: Uuid::from_u128(id),
            name: id.to_string(),
            wire: String::new(),
            peer: String::new(),
            reachable,
            version: None,
            verdict: None,
        };
        let voters: Vec<Uuid> = (1..=3).map(Uuid::from_u128).collect();
        let group = |number: usize, leader: u128| Group {
            number: number as u32,
            term: 1,
            leader: Some(Uuid::from_u128(leader)),
            commit_index: 0,
            voters: voters.clone(),
            learners: vec![],
            joint: false,
            lag_entries: BTreeMap::new(),
        };
        Picture {
            cluster: None,
            nodes: reachable.into_iter().zip(1..).map(|(reachable, id)| node(id, reachable)).collect(),
            groups: leaders.into_iter().enumerate().map(|(number, leader)| group(number, leader)).collect(),
            sealed: None,
        }
    }

    fn shares(picture: &Picture) -> Vec<usize> {
        let moves = even(picture);
        let leader = |group: &Group| moves.iter().find(|(number, _)| *number == group.number).map(|(_, to)| *to).or(group.leader);
        picture.nodes.iter().map(|node| picture.groups.iter().filter(|group| leader(group) == Some(node.id)).count()).collect()
    }

    #[test]
    fn every_node_that_is_there_gets_its_share() {
        assert_eq!(shares(&picture([true; 3], [1; 5])), [2, 2, 1]);
        assert_eq!(shares(&picture([true, false, true], [1; 5])), [3, 0, 2]);
        assert_eq!(even(&picture([true; 3], [1, 2, 3, 1, 2])), []);
        assert_eq!(even(&picture([false; 3], [1; 5])), []);
    }
}
