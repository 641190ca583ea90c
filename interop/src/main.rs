//! What Conduit writes is compared with what others read of it, and the other way round. Who writes a file says beside it what
//! is in it: see `truth`.

mod messages;
mod oracle;
mod receive;
mod record;
mod truth;

use std::path::Path;
use std::process::ExitCode;

use truth::{Difference, Truth};

/// Anything that went wrong, but for what is in a file.
pub type Failure = Box<dyn std::error::Error>;

const USAGE: &str = "usage:
  conduit-interop record DIRECTORY [--altered]           has Conduit write files
  conduit-interop write DIRECTORY                        has the crate `mcap` write files
  conduit-interop check recording|player|crate DIRECTORY [--altered]
                                                         reads all files with Conduit, or with the crate `mcap`
With --altered, one byte of what is expected is another one, which every reader of a file has to find.
";

/// A file does not hold what its writer says.
const DIFFERENT: u8 = 3;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let is_altered = args.last() == Some(&"--altered");
    let args = if is_altered { &args[..args.len() - 1] } else { &args };
    let done = match args {
        ["record", directory] => record::all(Path::new(directory), is_altered).map(|()| true),
        ["record-until-killed", path, domain] => record::until_killed(Path::new(path), domain).map(|()| true),
        ["write", directory] => oracle::write_all(Path::new(directory)).map(|()| true),
        ["check", "recording", directory] => check("recording", receive::recording, Path::new(directory), is_altered),
        ["check", "player", directory] => check("player", receive::player, Path::new(directory), is_altered),
        ["check", "crate", directory] => check("crate", oracle::read, Path::new(directory), is_altered),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(DIFFERENT),
        Err(error) => {
            eprintln!("conduit-interop: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads each file of a directory. `false` if one does not hold what its writer says.
fn check(
    reader: &str,
    read: impl Fn(&Path, &Truth) -> Result<Result<(), Difference>, Failure>,
    directory: &Path,
    is_altered: bool,
) -> Result<bool, Failure> {
    let mut paths =
        std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, Failure>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "mcap"));
    paths.sort();
    if paths.is_empty() {
        return Err(format!("{}: there is nothing to read", directory.display()).into());
    }
    let mut are_equal = true;
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut truth = Truth::read(&path)?;
        if is_altered {
            truth.alter();
        }
        match read(&path, &truth).map_err(|error| format!("{reader}: {name}: {error}"))? {
            Ok(()) => println!("{reader}: {name}: {} messages", truth.messages.len()),
            Err(difference) => {
                println!("{reader}: {name}: {difference}");
                are_equal = false;
            }
        }
    }
    Ok(are_equal)
}
