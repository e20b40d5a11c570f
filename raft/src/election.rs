//! Elections: pre-vote, vote, and who may ask (Raft section 5.2; Ongaro 2014, sections 3.10, 4.2.3 and 9.6).

use distric_model::{Instant, NodeId};

use crate::door::Outputs;
use crate::follower::Follower;
use crate::leader::Leader;
use crate::message::{Body, Message};
use crate::node::Raft;
use crate::position::{Position, Term};
use crate::quorum::VoteResult;
use crate::role::{Campaign, Role};

impl Raft {
    /// No leader was heard of for long enough. Asks first whether an election could be won, in a round that changes
    /// nobody's term: a replica that was cut off does not come back with a higher term and depose a good leader.
    pub(crate) fn become_pre_candidate(&mut self, now: Instant, out: &mut Outputs) {
        let core = &mut self.core;
        core.stats.pre_votes_count += 1;
        let mut campaign = Campaign { votes: Vec::new(), asked: true, by_leave: false, election_due: core.draw_election_due(now) };
        campaign.record(core.config.id, true);
        let message = Message { term: core.hard.term.next(), body: Body::PreVote { last: core.log.last() } };
        for voter in core.log.membership().electorate().filter(|voter| *voter != core.config.id) {
            out.sends.push((voter, message.clone()));
        }
        self.role = Role::PreCandidate(campaign);
        self.count_votes(now, out);
    }

    /// Enters the next term and votes for itself. The votes of others are asked for, and its own counted, once that
    /// is durable: a restarted candidate must not vote for somebody else in the same term.
    fn become_candidate(&mut self, now: Instant, by_leave: bool) {
        let core = &mut self.core;
        core.stats.elections_count += 1;
        core.enter_term(core.hard.term.next());
        core.hard.vote = Some(core.config.id);
        self.role = Role::Candidate(Campaign { votes: Vec::new(), asked: false, by_leave, election_due: core.draw_election_due(now) });
    }

    /// The leader hands over: no question first whether an election could be won (Ongaro 2014, section 3.10).
    pub(crate) fn on_timeout_now(&mut self, now: Instant) {
        // Whoever does not know yet that it votes could not tell whom to ask either.
        if self.core.log.membership().is_voter(self.core.config.id) {
            self.core.stats.campaigns_by_leave_count += 1;
            self.become_candidate(now, true);
        }
    }

    /// The candidate's own vote may have become durable.
    pub(crate) fn ask_for_votes(&mut self, now: Instant, out: &mut Outputs) {
        let core = &mut self.core;
        let Role::Candidate(campaign) = &mut self.role else { return };
        if campaign.asked || !core.durability.vote_is_durable(&core.hard) {
            return;
        }
        campaign.asked = true;
        campaign.record(core.config.id, true);
        let last = core.log.last();
        let body = if campaign.by_leave { Body::VoteByLeave { last } } else { Body::Vote { last } };
        for voter in core.log.membership().electorate().filter(|voter| *voter != core.config.id) {
            core.send(voter, body.clone(), out);
        }
        self.count_votes(now, out);
    }

    fn become_leader(&mut self, now: Instant, out: &mut Outputs) {
        self.core.stats.elections_won_count += 1;
        self.core.leader_heard_at = None;
        self.role = Role::Leader(Leader::new(&mut self.core, now, out));
    }

    /// Follows `leader`, or waits for one, in `term` or the present one if that is the same.
    pub(crate) fn become_follower(&mut self, now: Instant, term: Term, leader: Option<NodeId>) {
        if term > self.core.hard.term {
            self.core.enter_term(term);
        }
        if let Role::Leader(leader) = &mut self.role {
            self.core.reads_dropped.extend(leader.drop_reads());
        }
        self.role = Role::Follower(Follower::new(&mut self.core, now, leader));
    }

    fn count_votes(&mut self, now: Instant, out: &mut Outputs) {
        let membership = self.core.log.membership();
        let result = match &self.role {
            Role::PreCandidate(campaign) | Role::Candidate(campaign) => membership.vote_result(|voter| campaign.vote_of(voter)),
            Role::Follower(_) | Role::Leader(_) => return,
        };
        match (result, &self.role) {
            (VoteResult::Open, _) => {}
            (VoteResult::Won, Role::PreCandidate(_)) => self.become_candidate(now, false),
            (VoteResult::Won, _) => self.become_leader(now, out),
            (VoteResult::Lost, _) => self.become_follower(now, self.core.hard.term, None),
        }
    }

    /// Somebody asks whether it would be voted for in `term`. Nothing changes here by it.
    pub(crate) fn on_pre_vote(&mut self, now: Instant, from: NodeId, term: Term, last: Position, out: &mut Outputs) {
        let core = &mut self.core;
        let is_content = matches!(self.role, Role::Leader(_)) || core.has_lively_leader(now);
        if !is_content && term > core.hard.term && last >= core.log.last() {
            // The term asked for, not ours: the asker knows its question by it.
            out.sends.push((from, Message { term, body: Body::PreVoteReply { granted: true } }));
        } else {
            core.reply(from, Body::PreVoteReply { granted: false }, out);
        }
    }

    /// A candidate of the present term asks for the vote: one per term, and only for a log that lacks nothing that
    /// might be committed (Raft section 5.4.1).
    pub(crate) fn on_vote(&mut self, now: Instant, from: NodeId, last: Position, out: &mut Outputs) {
        let is_free = match &self.role {
            Role::Follower(follower) => follower.leader.is_none(),
            Role::PreCandidate(_) => true,
            Role::Candidate(_) | Role::Leader(_) => false,
        };
        let may_vote = self.core.hard.vote.map_or(is_free, |voted| voted == from);
        let granted = may_vote && last >= self.core.log.last();
        if granted && self.core.hard.vote.is_none() {
            // Waits for the winner, and asks for nothing itself meanwhile.
            self.become_follower(now, self.core.hard.term, None);
            self.core.hard.vote = Some(from);
        }
        self.core.reply(from, Body::VoteReply { granted }, out);
    }

    pub(crate) fn on_pre_vote_reply(&mut self, now: Instant, from: NodeId, term: Term, granted: bool, out: &mut Outputs) {
        let asked_for = self.core.hard.term.next();
        match &mut self.role {
            // A refusal carries the answerer's term, which is ours or we would have gone there.
            Role::PreCandidate(campaign) if !granted || term == asked_for => campaign.record(from, granted),
            _ => return,
        }
        self.count_votes(now, out);
    }

    pub(crate) fn on_vote_reply(&mut self, now: Instant, from: NodeId, granted: bool, out: &mut Outputs) {
        match &mut self.role {
            Role::Candidate(campaign) if campaign.asked => campaign.record(from, granted),
            _ => return,
        }
        self.count_votes(now, out);
    }
}
