//! Limits of the HTTP server, each with a name and a unit.

use std::time::Duration;

/// Settings of the HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Asked of every request but those for `/healthz` and `/readyz`, as `Authorization: Bearer` or as the password
    /// of `Basic` with any user name. `None` asks nothing.
    pub password: Option<String>,
    /// Names under which browsers may reach this server, beside addresses, `localhost` and members' own names. It
    /// keeps a page of another site from reaching this server through a name that it makes resolve to us.
    pub hosts: Vec<String>,
    /// Connections at once; beyond it they are answered 503 and closed.
    pub connections_max: usize,
    /// Connections from this machine that are let in beyond `connections_max`, so that an operator can still look.
    pub connections_reserved: usize,
    /// Requests that gather much (lists, batches, metrics) at once; beyond it they are refused as overload.
    pub gatherings_max: usize,
    /// Bytes of a request's first line and headers, at least 8,192. A longer one is answered 414 or 431.
    pub head_bytes_max: usize,
    /// How long a request's first line and headers may take, counted from the moment a connection is idle.
    pub head_patience: Duration,
    /// How long a body may take.
    pub body_patience: Duration,
    /// How long a client may not read while there is something to send.
    pub send_patience: Duration,
    /// How long requests may go on when the server stops.
    pub stop_patience: Duration,
    /// How long a wrong password is left waiting, which is what makes guessing slow.
    pub password_penalty: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            password: None,
            hosts: Vec::new(),
            connections_max: 1_000,
            connections_reserved: 8,
            gatherings_max: 32,
            head_bytes_max: 128 << 10,
            head_patience: Duration::from_secs(30),
            body_patience: Duration::from_secs(30),
            send_patience: Duration::from_secs(30),
            stop_patience: Duration::from_secs(5),
            password_penalty: Duration::from_millis(300),
        }
    }
}

impl std::fmt::Display for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at most {} connections, ", self.connections_max)?;
        f.write_str(if self.password.is_some() { "with a password" } else { "without a password" })
    }
}
