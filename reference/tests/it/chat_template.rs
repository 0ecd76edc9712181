//! Chat templates, in the dialect of transformers.

use std::path::PathBuf;

use reference::prompt::chat_template::Message;
use reference::prompt::{ChatTemplate, PromptError, Tokenizer};
use serde_json::{Map, Value, json};

use crate::fixtures;

fn template(source: &str) -> ChatTemplate {
    let Value::Object(special_tokens) = json!({"bos_token": "<s>", "eos_token": "</s>"}) else {
        unreachable!()
    };
    ChatTemplate::new(PathBuf::from("chat_template.jinja"), source, special_tokens).unwrap()
}

const MESSAGES: [Message<'_>; 3] = [
    Message { role: "system", content: " Be brief. " },
    Message { role: "user", content: "Hi <b>\n" },
    Message { role: "assistant", content: "Hello" },
];

fn render(source: &str) -> String {
    template(source).render(&MESSAGES).unwrap()
}

/// What Llama 3.1's template makes use of, in our own words.
const LIKE_LLAMA_3_1: &str = r#"{{- bos_token }}
{#- The date, which a caller may give. #}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "01 Jan 2020" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "[system]\n" }}
{%- if builtin_tools is defined or tools is not none %}
    {{- "Tools are at hand.\n" }}
{%- endif %}
{%- if builtin_tools is defined %}
    {{- "Tools: " + builtin_tools | reject('equalto', 'code') | join(", ") + "\n" }}
{%- endif %}
{{- "Date length: " ~ date_string|length ~ "\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "[end]" }}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
        {{- '[' + message['role'] + ']\n' + message['content'] | trim + '[end]' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one call at a time") }}
        {%- endif %}
    {%- elif message.content is mapping or message.content is iterable %}
        {{- message.content | tojson }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '[assistant]\n' }}
{%- endif %}
"#;

#[test]
fn a_template_with_the_features_of_llama_3_1_renders() {
    assert_eq!(
        render(LIKE_LLAMA_3_1),
        "<s>[system]\nDate length: 11\nBe brief.[end][user]\nHi <b>[end][assistant]\nHello[end][assistant]\n"
    );
}

#[test]
fn blocks_leave_no_line_of_their_own() {
    // trim_blocks and lstrip_blocks; the line break at the very end goes as well.
    assert_eq!(render("a\n    {% if true %}\n  b\n    {% endif %}\nc\n"), "a\n  b\nc");
}

#[test]
fn values_are_shown_as_python_shows_them() {
    assert_eq!(
        render("{{ true }} {{ none }} {{ [1, 'x', false] }} {{ {'k': 1.0} }} {{ nothing }}|"),
        "True None [1, 'x', False] {'k': 1.0} |"
    );
    assert_eq!(render("{{ (1,) }} {{ (1, 'a') }} {{ [()] }}"), "(1,) (1, 'a') [()]");
}

#[test]
fn joined_values_are_pythons() {
    assert_eq!(render("{{ none ~ true }} {{ [true, none] | join(',') }}"), "NoneTrue True,None");
}

#[test]
fn any_end_of_line_is_a_line_feed() {
    assert_eq!(render("a\r\nb\rc\n{% if true %}\r\nd{% endif %}\r\n"), "a\nb\nc\nd");
}

#[test]
fn nothing_is_escaped_for_html() {
    assert_eq!(
        render("{{ messages[1].content }}|{{ messages[1].content | tojson }}"),
        r#"Hi <b>
|"Hi <b>\n""#
    );
}

#[test]
fn tojson_writes_as_pythons_json_does() {
    // Each line is what json.dumps gives with the same options.
    let source = |options: &str| {
        render(&format!(
            "{{{{ {{'b': [1, 2.5, 1e-5], 'a': {{}}, 'é': '\u{1f600}', 'n': none, 'e': []}} | tojson{options} }}}}"
        ))
    };
    assert_eq!(
        source(""),
        "{\"b\": [1, 2.5, 1e-05], \"a\": {}, \"é\": \"\u{1f600}\", \"n\": null, \"e\": []}"
    );
    assert_eq!(
        source("(indent=2)"),
        "{\n  \"b\": [\n    1,\n    2.5,\n    1e-05\n  ],\n  \"a\": {},\n  \"é\": \"\u{1f600}\",\n  \"n\": null,\n  \"e\": []\n}"
    );
    assert_eq!(
        source("(separators=(',', ':'), sort_keys=true)"),
        "{\"a\":{},\"b\":[1,2.5,1e-05],\"e\":[],\"n\":null,\"é\":\"\u{1f600}\"}"
    );
    assert_eq!(
        source("(ensure_ascii=true)"),
        r#"{"b": [1, 2.5, 1e-05], "a": {}, "\u00e9": "\ud83d\ude00", "n": null, "e": []}"#
    );
}

#[test]
fn pythons_methods_work() {
    assert_eq!(render("{{ 'a</think>b'.split('</think>')[-1].lstrip() }}"), "b");
    assert_eq!(render("{{ messages[0].content.strip().startswith('Be') }} {{ 'x'.upper() }}"), "True X");
    assert_eq!(render("{% for key, value in {'k': 'v'}.items() %}{{ key }}={{ value }}{% endfor %}"), "k=v");
}

#[test]
fn loops_can_be_left_and_continued() {
    assert_eq!(
        render(
            "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}"
        ),
        "02"
    );
    assert_eq!(
        render(
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + loop.index %}{% endfor %}{{ ns.n }}"
        ),
        "6"
    );
}

#[test]
fn a_block_marked_as_generated_is_kept() {
    assert_eq!(render("a{%- generation -%}  b  {%- endgeneration %} c"), "ab c");
}

#[test]
fn a_template_sees_tools_and_documents_as_none() {
    assert_eq!(
        render("{{ tools is none }} {{ documents is none }} {{ add_generation_prompt }} {{ eos_token }}"),
        "True True True </s>"
    );
}

#[test]
fn a_refusal_has_the_templates_own_words() {
    let error = template("{{ raise_exception('roles must alternate') }}").render(&MESSAGES).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`chat_template.jinja`: the chat template refuses the conversation: roles must alternate"
    );
}

#[test]
fn a_broken_template_is_named_with_its_line() {
    let error = ChatTemplate::new(PathBuf::from("broken.jinja"), "line\n{% if %}", Map::new())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("`broken.jinja`: the chat template fails: syntax error")
            && error.ends_with("(line 2)"),
        "{error}"
    );
    let error = template("a\nb\n{{ nothing.at.all }}").render(&MESSAGES).unwrap_err().to_string();
    assert!(
        error.starts_with("`chat_template.jinja`: the chat template fails: undefined value")
            && error.ends_with("(line 3)"),
        "{error}"
    );
    let error = template("{{ strftime_now('%!') }}").render(&MESSAGES).unwrap_err().to_string();
    assert!(error.contains("strftime_now(`%!`)"), "{error}");
}

/// The bundled checkpoint's tokenizer, with `chat_template` in its configuration and no template file.
fn load_from_configuration(chat_template: Value) -> Result<String, PromptError> {
    let dir = tempfile::tempdir().unwrap();
    let source = fixtures::path("checkpoints/shapes");
    std::fs::copy(source.join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let mut config = fixtures::json("checkpoints/shapes/tokenizer_config.json");
    config["chat_template"] = chat_template;
    std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    ChatTemplate::load(dir.path(), tokenizer.config())?.render(&MESSAGES)
}

#[test]
fn the_configurations_template_may_be_one_or_a_named_list() {
    assert_eq!(load_from_configuration(json!("one {{ bos_token }}")).unwrap(), "one <|begin_of_text|>");
    let list = json!([{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]);
    assert_eq!(load_from_configuration(list).unwrap(), "plain");
    assert_eq!(load_from_configuration(json!({"default": "plain"})).unwrap(), "plain");
}

#[test]
fn a_checkpoint_without_a_template_is_refused() {
    assert!(matches!(load_from_configuration(Value::Null), Err(PromptError::NoTemplate { .. })));
    let list = json!([{"name": "tool_use", "template": "tools"}]);
    assert!(
        matches!(load_from_configuration(list), Err(PromptError::NoDefaultTemplate { found, .. }) if found == ["tool_use"])
    );
    assert!(matches!(load_from_configuration(json!(7)), Err(PromptError::Malformed { .. })));
}
