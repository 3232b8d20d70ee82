//! The HTTP server over a real node that is alone, driven with raw bytes over a loopback connection.

mod abuse;
mod cluster;
mod harness;
mod values;

use super::routes::ROUTES;

#[test]
fn the_description_names_every_path_and_method_and_no_other() {
    let description: serde_json::Value =
        serde_json::from_str(include_str!("../assets/openapi.json")).unwrap();
    let mut described = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        let methods = item.as_object().unwrap().keys().filter(|name| *name != "parameters");
        described.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    let mut served: Vec<_> = ROUTES
        .iter()
        .flat_map(|route| {
            route.methods.iter().map(move |method| format!("{method} {}", route.template))
        })
        .collect();
    described.sort();
    served.sort();
    assert_eq!(described, served);
}

#[test]
fn the_description_is_of_this_version_and_has_no_loose_ends() {
    let text = include_str!("../assets/openapi.json");
    let description: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
    for reference in text.split("\"$ref\": \"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(description.pointer(pointer).is_some(), "{pointer} is not defined");
    }
}
