#[derive(clap::Args)]
pub struct Args {}
pub fn run(_: &Args, _: &crate::Context) -> crate::outcome::Result { Ok(crate::outcome::Outcome::Done) }
