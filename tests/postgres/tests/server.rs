//! The server does what tests rely on.

use std::net::TcpStream;

use postgres_server::Postgres;

#[test]
fn what_was_committed_is_there_after_a_crash_and_nothing_listens_after_the_end() {
    let mut server = Postgres::start().unwrap();
    server.create_database("one").unwrap();
    server.sql("one", "CREATE TABLE t AS SELECT 42 AS answer").unwrap();
    server.kill().unwrap();
    assert!(server.sql("one", "SELECT 1").is_err());
    server.restart().unwrap();
    assert_eq!(server.sql("one", "SELECT answer, 'x' FROM t").unwrap(), "42|x");
    let port = server.port();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    drop(server);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn a_server_ends_with_the_thread_that_started_it() {
    let server = std::thread::spawn(|| Postgres::start().unwrap()).join().unwrap();
    let port = server.port();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {
        assert!(std::time::Instant::now() < end, "the server outlives its test");
        std::thread::yield_now();
    }
}
