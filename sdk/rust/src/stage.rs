//! Bodies larger than a frame: staged in parts on the connection, then used by their command.

use bytes::Bytes;
use distric_wire::Code;
use distric_wire::client::CommandKind;
use uuid::Uuid;

use crate::client::Client;
use crate::error::{Error, Rejection};
use crate::request::{Command, Reply};

/// How often a body is staged anew when its connection was lost on the way.
const STAGE_TRIES_MAX: u32 = 4;
/// Room in a frame for what a command says beside its body, bytes.
const COMMAND_HEAD_BYTES: usize = 4 << 10;
/// Largest part, bytes: several share the credit of a connection.
const PART_BYTES_MAX: usize = 512 << 10;

/// The bytes of a body that a frame of this size can take.
fn room(frame_bytes_max: u32) -> usize {
    (frame_bytes_max as usize).saturating_sub(COMMAND_HEAD_BYTES).max(1)
}

impl Client {
    /// Whether a command's body must be staged: its kind allows it, and it does not fit in a frame.
    pub(crate) fn must_stage(&self, command: &Command) -> bool {
        let may = matches!(
            command.kind,
            CommandKind::ApplyCatalog
                | CommandKind::PutRule
                | CommandKind::PutWorkflow
                | CommandKind::StartShadow
                | CommandKind::StartCanary
        );
        may && command.body.as_ref().is_some_and(|body| body.len() > room(self.welcome().frame_bytes_max))
    }

    /// Stages the body in parts, then sends the command. When the connection is lost on the way the parts are lost with it, and staged anew.
    pub(crate) async fn staged_command(&self, mut command: Command) -> Result<Reply, Error> {
        let body = command.body.take().unwrap_or_default();
        let mut tries = 1;
        loop {
            match self.stage_and_send(&command, &body).await {
                Err(Error::Rejected(rejection)) if is_lost(&rejection) && tries < STAGE_TRIES_MAX => tries += 1,
                answer => return answer,
            }
        }
    }

    async fn stage_and_send(&self, command: &Command, body: &Bytes) -> Result<Reply, Error> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).expect("the system's random generator works after start-up");
        let id = Uuid::from_bytes(id);
        let part_bytes = room(self.welcome().frame_bytes_max).min(PART_BYTES_MAX);
        let mut offset = 0;
        while offset < body.len() {
            let end = (offset + part_bytes).min(body.len());
            let part = Command::new(CommandKind::StageBody).name(offset.to_string()).body(body.slice(offset..end));
            self.send_command(Command { id: Some(id), ..part }).await?;
            offset = end;
        }
        self.send_command(Command { id: Some(id), ..command.clone() }).await
    }
}

/// Whether a refusal says that parts of the body are not there (any more).
fn is_lost(rejection: &Rejection) -> bool {
    match rejection.code {
        Code::NotFound => rejection.field.as_deref() == Some("id"),
        Code::Conflict => rejection.field.as_deref() == Some("name"),
        _ => false,
    }
}
