//! What a person does at a page, and what they find there: fields by their labels, buttons and links by their names.

use std::sync::MutexGuard;

use serde_json::{Value, json};
use thirtyfour::{By, Key, WebElement};

use super::{chromium::Chromium, support::actors::PASSWORD};

/// What is wrong with a page, as far as its document shows.
const LOOK_OVER: &str = include_str!("look_over.js");

/// The browser's one tab.
pub struct Tab<'a> {
    chromium: &'a Chromium,
    issuer: &'a str,
    _turn: MutexGuard<'a, ()>,
}

impl<'a> Tab<'a> {
    pub fn new(chromium: &'a Chromium, issuer: &'a str, turn: MutexGuard<'a, ()>) -> Self {
        let tab = Self { chromium, issuer, _turn: turn };
        chromium.run(async |driver| driver.goto("about:blank").await);
        chromium.tools("Network.clearBrowserCookies", &json!({}));
        chromium.tools("Emulation.setScriptExecutionDisabled", &json!({"value": false}));
        drop(tab.complaints());
        tab
    }

    /// From now on pages run no scripts.
    pub fn without_scripts(&self) {
        self.chromium.tools("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    }

    /// Goes to a path of the server's, or to an address.
    #[track_caller]
    pub fn open(&self, target: &str) -> &Self {
        let address = if target.starts_with('/') { format!("{}{target}", self.issuer) } else { target.to_owned() };
        self.chromium.run(async |driver| driver.goto(address).await);
        self
    }

    /// Types into the field of a label.
    #[track_caller]
    pub fn fill(&self, label: &str, text: &str) -> &Self {
        self.chromium.run(async |driver| {
            let label = driver.find(By::XPath(format!("//label[normalize-space()='{label}']"))).await?;
            let id = label.attr("for").await?.expect("a label says what it is for");
            let field = driver.find(By::Id(id)).await?;
            field.clear().await?;
            field.send_keys(text).await
        });
        self
    }

    /// Presses a button or follows a link, and waits for what that leads to.
    #[track_caller]
    pub fn press(&self, name: &str) -> &Self {
        let path = format!("//button[normalize-space()='{name}'] | //a[normalize-space()='{name}']");
        self.chromium.run(async |driver| driver.find(By::XPath(path)).await?.click().await);
        self
    }

    /// Signs in with the password of everybody, on the way to a path.
    #[track_caller]
    pub fn signs_in(&self, email: &str, path: &str) -> &Self {
        self.open(path).shows("Sign in").fill("Email", email).fill("Password", PASSWORD).press("Sign in")
    }

    /// Forgets who was signed in.
    pub fn signed_out(&self) -> &Self {
        self.chromium.tools("Network.clearBrowserCookies", &json!({}));
        self
    }

    /// Waits for the page of a heading, and looks it over.
    #[track_caller]
    pub fn shows(&self, heading: &str) -> &Self {
        let path = format!("//h1[normalize-space()='{heading}']");
        self.chromium.run(async |driver| {
            let found = driver.find(By::XPath(path)).await;
            if found.is_err() {
                let text = driver.find(By::Css("body")).await?.text().await?;
                panic!("not {heading:?} but, at {}:\n{text}", driver.current_url().await?);
            }
            Ok(())
        });
        self.look_over();
        self
    }

    /// Waits for what the page says aloud, in a role of `alert` or `status`.
    #[track_caller]
    pub fn says(&self, role: &str, words: &str) -> &Self {
        let path = format!("//*[@role='{role}' and not(@hidden) and contains(normalize-space(), \"{words}\")]");
        self.chromium.run(async |driver| driver.find(By::XPath(path)).await.map(drop));
        let named = self.named_nodes().iter().any(|(own, _)| own == role);
        assert!(named, "no {role} in the accessibility tree");
        self
    }

    /// The text that people see of the page.
    #[track_caller]
    pub fn text(&self) -> String {
        self.chromium.run(async |driver| driver.find(By::Css("body")).await?.text().await)
    }

    /// The texts of all elements of a selector, of which there is one at least.
    #[track_caller]
    pub fn texts(&self, selector: &str) -> Vec<String> {
        self.chromium.run(async |driver| {
            let mut texts = Vec::new();
            for element in driver.find_all(By::Css(selector)).await? {
                texts.push(element.text().await?);
            }
            Ok(texts)
        })
    }

    /// Where the tab is.
    pub fn address(&self) -> url::Url {
        self.chromium.run(async |driver| driver.current_url().await)
    }

    /// A script's value. It is no part of the page, whose policy would not let it in.
    #[track_caller]
    pub fn script(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.chromium.run(async |driver| Ok(driver.execute(script, arguments).await?.json().clone()))
    }

    /// What a script hands to its last argument, a function.
    #[track_caller]
    pub fn script_async(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.chromium.run(async |driver| Ok(driver.execute_async(script, arguments).await?.json().clone()))
    }

    /// The names of what the tab key comes by, from the top of the page on.
    #[track_caller]
    pub fn tab_stops(&self, count: usize) -> Vec<String> {
        const NAME: &str = "const at = document.activeElement; return at.labels?.[0]?.textContent ?? at.textContent;";
        self.script("document.activeElement.blur(); window.getSelection().removeAllRanges();", Vec::new());
        let name = |_| {
            self.chromium.run(async |driver| {
                let at: WebElement = driver.active_element().await?;
                at.send_keys(Key::Tab + "").await
            });
            self.script(NAME, Vec::new()).as_str().unwrap().to_owned()
        };
        (0..count).map(name).collect()
    }

    /// A new authenticator in this browser, which checks its user and says yes; it is taken out on drop.
    pub fn authenticator(&self) -> Authenticator<'a> {
        let options = json!({
            "protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true,
            "isUserConsenting": true, "isUserVerified": true,
        });
        let id = self.chromium.post("/webauthn/authenticator", options);
        Authenticator { chromium: self.chromium, id: id.as_str().unwrap().to_owned() }
    }

    /// What the browser complained of since it was last asked, apart from answers that refuse.
    fn complaints(&self) -> Vec<String> {
        let log = self.chromium.post("/se/log", json!({"type": "browser"}));
        let entries = log.as_array().unwrap().iter();
        let refusal = |message: &str| {
            let refused = "Failed to load resource: the server responded with a status of ";
            let status = message.split(refused).nth(1).and_then(|rest| rest.get(..3));
            status.is_some_and(|status| ["400", "401", "403", "409", "410", "422", "429"].contains(&status))
        };
        let messages = entries.map(|entry| entry["message"].as_str().unwrap().to_owned());
        messages.filter(|message| !refusal(message)).collect()
    }

    /// Fails when something is wrong with the page.
    #[track_caller]
    pub fn look_over(&self) {
        let faults = self.script(LOOK_OVER, Vec::new());
        let complaints = self.complaints();
        let at = self.address();
        assert_eq!(faults, json!([]), "{at}");
        assert!(complaints.is_empty(), "{at}: {complaints:#?}");
        for (role, name) in self.named_nodes() {
            let needs_a_name = ["textbox", "combobox", "button", "link", "checkbox", "image", "heading"];
            assert!(!name.is_empty() || !needs_a_name.contains(&role.as_str()), "{at}: a {role} without a name");
        }
    }

    /// The accessibility tree: roles and names.
    fn named_nodes(&self) -> Vec<(String, String)> {
        let tree = self.chromium.tools("Accessibility.getFullAXTree", &json!({}));
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        let nodes = tree["nodes"].as_array().unwrap().iter().filter(|node| node["ignored"] != true);
        nodes.map(|node| (text(&node["role"]), text(&node["name"]))).collect()
    }
}

/// An authenticator of the browser.
pub struct Authenticator<'a> {
    chromium: &'a Chromium,
    id: String,
}

impl Authenticator<'_> {
    /// Whether its user is recognized from now on.
    pub fn recognizes(&self, is_verified: bool) {
        let path = format!("/webauthn/authenticator/{}/uv", self.id);
        self.chromium.post(&path, json!({"isUserVerified": is_verified}));
    }
}

impl Drop for Authenticator<'_> {
    fn drop(&mut self) {
        self.chromium.delete(&format!("/webauthn/authenticator/{}", self.id));
    }
}
