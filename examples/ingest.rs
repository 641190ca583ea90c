//! temporary
use conduit::engine::Engine;
use conduit::net::Server;
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::options().start()?;
    let server = Server::options().tcp("127.0.0.1:9000").start(engine)?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    println!("{:?}", server.stats());
    println!("{:?}", server.stop(std::time::Duration::from_secs(1)));
    Ok(())
}
