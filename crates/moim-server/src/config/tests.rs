use super::*;

fn load(overrides: &Overrides, environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment =
        environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    Config::load(overrides, environment).map_err(|error| error.to_string())
}

fn from_toml(text: &str) -> Result<Config, String> {
    let mut config = Config::default();
    config.read_toml(text)?;
    config.finish().map_err(|error| error.to_string())?;
    Ok(config)
}

fn refused(text: &str) -> String {
    from_toml(text).expect_err("must be refused")
}

#[test]
fn what_is_printed_reads_back() {
    let defaults = Config::default();
    assert_eq!(from_toml(&defaults.print()).unwrap(), defaults);
    let mut config = Config::default();
    config
        .read_toml("[node]\nfound = ['a:1', 'b:2']\nzone = 'a\"b'\n[cluster]\nn = 5\nr = 2")
        .unwrap();
    config.add_namespace("carts:conflict=siblings,r=ONE,ttl_ms=60000").unwrap();
    config.add_namespace("0:max_pair_bytes=100").unwrap();
    assert_eq!(from_toml(&config.print()).unwrap(), config);
}

#[test]
fn the_print_begins_like_this() {
    let text = Config::default().print();
    let head: Vec<_> = text.lines().take(16).collect();
    assert_eq!(
        head.join("\n"),
        r#"# Configuration of a Moim server. Every key is here, with the value that is in force; delete what you do not change.
# A variable overrides a key: MOIM_NODE_ZONE for zone in [node]. A flag of `moim server` overrides both.

# The same on every node; compared when nodes meet.
[cluster]
# What people call this cluster.
name = "moim"
# Pieces that the hash slots are cut into: a power of two from 256 to 16384. Fixed when the cluster is
# founded.
partitions = 4096
# Copies of every value, on distinct machines; there are never more than machines. 1 to 16.
n = 3
# Copies that a read hears from: ONE, TWO, THREE, QUORUM, ALL, LOCAL_ONE, LOCAL_QUORUM, EACH_QUORUM or
# a number. With r + w > n a read sees every acknowledged write.
r = "QUORUM"
# Copies that hold a write before it is acknowledged: as r."#
    );
}

#[test]
fn a_password_is_not_printed() {
    let config = from_toml("[node]\npassword = 'secret'").unwrap();
    assert!(!config.print().contains("secret"));
    assert!(config.print().contains("# password is set and not shown"));
}

#[test]
fn flags_override_variables_which_override_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.toml");
    std::fs::write(&path, "[node]\nzone = 'file'\ndc = 'file'\nweight = 7\n[cluster]\nn = 5\n")
        .unwrap();
    let mut overrides = Overrides::new();
    overrides.file(&path).set("--zone", "node.zone", "flag").set(
        "--found",
        "node.found",
        "a:1, b:2",
    );
    let config = load(
        &overrides,
        &[("MOIM_NODE_ZONE", "variable"), ("MOIM_NODE_DC", "7"), ("MOIM_ADDR", "x")],
    )
    .unwrap();
    assert_eq!(
        (config.node.zone.as_str(), config.node.dc.as_str(), config.node.weight),
        ("flag", "7", 7)
    );
    assert_eq!(
        (config.node.found, config.cluster.n),
        (vec!["a:1".to_owned(), "b:2".to_owned()], 5)
    );
}

#[test]
fn unknown_names_get_the_nearest_known_one() {
    assert_eq!(
        refused("[node]\nzoen = 'a'"),
        "there is no setting 'node.zoen'; the nearest is 'node.zone'"
    );
    assert_eq!(
        refused("[nodes]\nzone = 'a'"),
        "there is no setting 'nodes'; the nearest is 'node'"
    );
    assert_eq!(refused("zone = 'a'"), "there is no setting 'zone'; the nearest is 'node'");
    assert_eq!(
        refused("[cluster.namespaces.carts]\nconflicts = 'lww'"),
        "namespace 'carts': there is no setting 'conflicts'; the nearest is 'conflict'"
    );
    assert_eq!(
        load(&Overrides::new(), &[("MOIM_NODE_LISTEN_REDDIS", "1")]).unwrap_err(),
        "MOIM_NODE_LISTEN_REDDIS: there is no setting 'MOIM_NODE_LISTEN_REDDIS'; the nearest is \
         'MOIM_NODE_LISTEN_REDIS'"
    );
    let mut overrides = Overrides::new();
    overrides.set("--zone", "node.zon", "a");
    assert!(
        load(&overrides, &[]).unwrap_err().starts_with("--zone: there is no setting 'node.zon'")
    );
}

#[test]
fn wrong_values_say_what_is_expected() {
    for (text, error) in [
        ("[node]\nzone = 1", "zone = 1: a text is expected"),
        ("[node]\nweight = -1", "weight = -1: a whole number from 0 to 4294967295 is expected"),
        ("[node]\nallow_insecure = 'yes'", "allow_insecure = \"yes\": true or false is expected"),
        (
            "[node]\nlisten_http = ':80'",
            "listen_http = \":80\": an IP address and a port are expected, as 127.0.0.1:6379 or 0.0.0.0:6379",
        ),
        (
            "[node]\nengine = 'disk'",
            "engine = \"disk\": one of 'auto' 'lsm' 'rocksdb' 'memory' is expected",
        ),
        (
            "[cluster]\npartitions = 300",
            "partitions = 300: partitions = 300 must be a power of two from 256 to 16384",
        ),
        ("[cluster]\nr = 4", "cluster: r = 4 can never be reached with n = 3"),
        ("[cluster]\nn = 17", "cluster: n = 17: 1 to 16 copies are possible"),
        (
            "[node]\nread_retry_ms = 1000",
            "node.read_retry_ms: must be below request_timeout_ms, or no read is ever tried again",
        ),
        (
            "[node]\ndurability = 'none'",
            "durability = \"none\": 'sync', 'interval' or 'os' is expected",
        ),
        ("[node]\ndurability_interval_ms = 0", "node.durability_interval_ms: must be 1 to 60000"),
        ("[node]\nlog_rest_ms = 1999", "node.log_rest_ms: must be at least 2000"),
        (
            "[node]\nfound = ['a']",
            "node.found: 'a' is no peer address: host:port is expected, or host:first-last for its shards",
        ),
        ("[node]\nfound = ['a:1', 'a:1']", "node.found: 'a:1' is there twice"),
    ] {
        assert_eq!(refused(text), error);
    }
}

#[test]
fn what_is_not_served_yet_is_refused() {
    assert_eq!(
        refused("[cluster.namespaces.a]\nmode = 'consistent'"),
        "namespace 'a': mode = \"consistent\": 'consistent' is not served yet; use 'available'"
    );
    assert!(refused("[node]\njoin = ['a:1']").contains("not served yet"));
}

#[test]
fn namespaces_of_flags_are_those_of_files() {
    let text =
        "[cluster.namespaces.carts]\nconflict = 'siblings'\nsloppy = true\nn = 2\nttl_ms = 1000\n";
    let mut overrides = Overrides::new();
    overrides.namespace("carts:conflict=siblings,sloppy=true").namespace("carts:n=2,ttl_ms=1000");
    let config = load(&overrides, &[]).unwrap();
    assert_eq!(config, from_toml(text).unwrap());
    assert_eq!(
        config,
        load(
            &Overrides::new(),
            &[("MOIM_CLUSTER_NAMESPACES", "carts:conflict=siblings,sloppy=true,n=2,ttl_ms=1000")]
        )
        .unwrap()
    );
    let namespaces = config.cluster.namespaces().unwrap();
    let carts = namespaces.by_name("carts").unwrap();
    assert_eq!(
        (carts.n, carts.ttl_ms, carts.max_ttl_ms, carts.max_pair_bytes),
        (2, Some(1000), None, 10_240)
    );
    assert_eq!(namespaces.by_name("3").unwrap().n, 3);
    assert!(carts.sloppy && namespaces.by_name("3").unwrap().sloppy);
    let strict = from_toml("[cluster.namespaces.carts]\nn = 2\n").unwrap();
    assert!(!strict.cluster.namespaces().unwrap().by_name("carts").unwrap().sloppy);
    for (text, error) in [
        ("carts:conflict", "namespace 'carts': 'conflict' is not of the form key=value"),
        (":n=1", "'' is no name for a namespace: use 1 to 64 letters, digits, '_', '-' and '.'"),
        ("a:n=x", "namespace 'a': n = 'x': a whole number from 0 to 255 is expected"),
        ("a:m=1", "namespace 'a': there is no setting 'm'; the nearest is 'n'"),
    ] {
        assert_eq!(Config::default().add_namespace(text).unwrap_err(), error);
    }
}

#[test]
fn nobody_listens_to_the_world_by_accident() {
    let open = "[node]\nlisten_redis = '10.0.0.1:6379'\n";
    assert_eq!(
        refused(open),
        "node.listen_redis: 10.0.0.1:6379 can be reached from other machines, and there is no password: set \
         node.password_file (MOIM_NODE_PASSWORD_FILE), listen on 127.0.0.1, or say node.allow_insecure = true"
    );
    assert!(from_toml(&format!("{open}allow_insecure = true")).is_ok());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    std::fs::write(&path, "s3cret\n").unwrap();
    let config = from_toml(&format!("{open}password_file = '{}'", path.display())).unwrap();
    assert_eq!(config.node.password, "s3cret");
    assert!(refused("[node]\npassword_file = '/nonexistent/file'").contains("cannot read"));
    let wild = "[node]\npassword = 'p'\nlisten_redis = '0.0.0.0:6379'";
    assert!(refused(wild).starts_with("node.advertise_client: listening on every address"));
    assert!(from_toml(&format!("{wild}\nadvertise_client = 'db1'")).is_ok());
}

#[test]
fn every_number_has_its_unit_in_its_name() {
    let plain = ["partitions", "n", "weight", "shards"];
    for key in KEYS {
        if key.show(&Config::default()).is_integer() && !plain.contains(&key.name) {
            let units = ["_ms", "_bytes", "_bytes_max", "_bytes_per_second_min", "_max"];
            let unit = units.iter().any(|unit| key.name.ends_with(unit));
            assert!(unit, "{}", key.path());
        }
        assert!(!key.comment.is_empty() && key.comment.ends_with(['.', ')']), "{}", key.path());
    }
}
