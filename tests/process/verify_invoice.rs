//! `tollgate verify-invoice`: the real binary on the file of a real invoice.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};

use super::{
    customer::{admin, customer, owner},
    server::{Server, tollgate},
};

/// What it says, on both streams, and its exit status.
fn verify(file: &Path, more: &[&Path]) -> (Option<i32>, String, String) {
    let mut command = tollgate();
    command.arg("verify-invoice").arg(file).args(more);
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn serve(data: &Path) -> Server {
    let mut command = tollgate();
    command.args(["serve", "--lab", "--listen", "127.0.0.1:0"]);
    // An RSA key takes longer to make than the rest of this test.
    command.env("TOLLGATE_IDENTITY__PUBLISHED_ALGS", r#"["ES256"]"#);
    Server::run(command.arg("--data").arg(data))
}

fn turn(server: &Server, to: &str) {
    let turned = server.call("POST", "/admin/v1/lab/clock", &admin(server), &json!({"set": to, "freeze": true}));
    assert_eq!(turned.status, 200, "{}", turned.body);
}

#[test]
fn an_exported_invoice_is_verified_without_a_server_and_an_edited_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = serve(&data);
    turn(&server, "2031-05-06T07:08:09Z");
    let token = customer(&server);
    for _ in 0..3 {
        assert_eq!(server.get("/sample/hello", &token).status, 200);
    }
    turn(&server, "2031-06-01T02:00:00Z");
    // The server looks every 20 seconds.
    server.line_within("invoices were made", Duration::from_mins(1));
    let token = owner(&server);
    let list = server.get("/v1/invoices", &token).json();
    let invoice = list["items"][0]["invoice_id"].as_str().unwrap().to_owned();
    let exported = server.get(&format!("/v1/invoices/{invoice}/export"), &token).body;
    let keys = server.get("/.well-known/jwks.json", "").body;
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));

    let path = |name: &str| folder.path().join(name);
    fs::write(path("invoice.json"), &exported).unwrap();
    fs::write(path("keys.json"), &keys).unwrap();
    let (status, said, errors) = verify(&path("invoice.json"), &[Path::new("--keys"), &path("keys.json")]);
    assert_eq!((status, &*errors), (Some(0), ""), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "invoice INV-000001 of default, finalized when exported");
    assert!(lines[1].contains("lines worked out again, with "), "{said}");
    assert!(said.contains("which is in the key set") && said.ends_with("all agrees\n"), "{said}");

    // Whatever digit is edited, here some of them.
    let digits = exported.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_digit()).map(|(place, _)| place);
    for place in digits.step_by(exported.len() / 12) {
        let mut edited = exported.clone().into_bytes();
        edited[place] = if edited[place] == b'9' { b'0' } else { edited[place] + 1 };
        fs::write(path("edited.json"), &edited).unwrap();
        let (status, said, errors) = verify(&path("edited.json"), &[]);
        assert!(matches!(status, Some(1 | 2)) && errors.starts_with("tollgate: "), "{place}: {said}{errors}");
    }
    let mut value: Value = serde_json::from_str(&exported).unwrap();
    value["invoice"]["document"]["lines"][0]["amount"] = "1.00".into();
    fs::write(path("edited.json"), value.to_string()).unwrap();
    let (status, _, errors) = verify(&path("edited.json"), &[]);
    assert_eq!(status, Some(1));
    assert!(errors.contains("line 1 (base of base), amount: the file says \"1.00\", but it comes to"), "{errors}");
    fs::write(path("edited.json"), &exported[..100]).unwrap();
    assert_eq!(verify(&path("edited.json"), &[]).0, Some(2));
    assert_eq!(verify(&path("nothing.json"), &[]).0, Some(2));
    assert_eq!(verify(folder.path(), &[]).0, Some(2));
}
