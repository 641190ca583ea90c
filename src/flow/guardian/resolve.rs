//! Which file a program's name means.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};

/// The file that `program` means to a process in `working_dir`, an absolute path: a name with a slash is a path; any other is
/// looked up in `path`, as `PATH` has it.
///
/// Fails as `execvp` would: if something was found but may not be executed, with that.
pub fn resolve(program: &OsStr, path: Option<&OsStr>, working_dir: &Path) -> io::Result<PathBuf> {
    if program.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    if program.as_bytes().contains(&b'/') {
        let file = working_dir.join(program);
        return check(&file).map(|()| file);
    }
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    for directory in path.unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin")).as_bytes().split(|byte| *byte == b':') {
        // An empty one is the working directory.
        let file = working_dir.join(OsStr::from_bytes(directory)).join(program);
        match check(&file) {
            Ok(()) => return Ok(file),
            Err(found) if found.kind() == io::ErrorKind::PermissionDenied => error = found,
            Err(_) => {}
        }
    }
    Err(error)
}

/// Whether it is a file that may be executed.
fn check(file: &Path) -> io::Result<()> {
    if FileType::from_raw_mode(stat(file)?.st_mode) != FileType::RegularFile {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(program: &str, path: &str, dir: &str) -> Result<String, io::ErrorKind> {
        let file = resolve(OsStr::new(program), Some(OsStr::new(path)), Path::new(dir));
        file.map(|file| file.to_str().unwrap().into()).map_err(|error| error.kind())
    }

    #[test]
    fn a_name_is_looked_up_and_a_path_is_taken() {
        assert_eq!(resolved("sh", "/nowhere:/bin", "/tmp").unwrap(), "/bin/sh");
        assert_eq!(resolved("sh", "", "/bin").unwrap(), "/bin/sh", "an empty entry is the working directory");
        assert_eq!(resolved("./sh", "/nowhere", "/bin").unwrap(), "/bin/./sh");
        assert_eq!(resolved("bin/sh", "/nowhere", "/").unwrap(), "/bin/sh");
        assert_eq!(resolved("/bin/sh", "", "/tmp").unwrap(), "/bin/sh");
    }

    #[test]
    fn what_is_not_there_or_no_program_is_told_apart() {
        assert_eq!(resolved("no-such-program", "/bin:/usr/bin", "/"), Err(io::ErrorKind::NotFound));
        assert_eq!(resolved("", "/bin", "/"), Err(io::ErrorKind::NotFound));
        assert_eq!(resolved("passwd", "/etc", "/"), Err(io::ErrorKind::PermissionDenied));
        assert_eq!(resolved("/etc", "", "/"), Err(io::ErrorKind::PermissionDenied), "a directory");
        assert_eq!(resolved("passwd", "/etc:/usr/bin", "/").unwrap(), "/usr/bin/passwd");
    }
}
