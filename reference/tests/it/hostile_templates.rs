//! Chat templates that ask for everything: each ends with an error or an answer, and the program lives.

use std::path::PathBuf;

use reference::prompt::chat_template::Message;
use reference::prompt::{ChatTemplate, PromptError};
use serde_json::Map;

fn outcome(source: &str) -> Result<String, PromptError> {
    let messages = [Message { role: "user", content: "Hello." }];
    ChatTemplate::new(PathBuf::from("chat_template.jinja"), source, Map::new())?.render(&messages)
}

/// A sentence of one line that names the file, and is short enough to be read.
fn assert_refused(name: &str, source: &str) {
    let error = match outcome(source) {
        Ok(text) => panic!("{name}: taken, {} bytes", text.len()),
        Err(error) => error.to_string(),
    };
    assert!(error.starts_with("`chat_template.jinja`: the chat template"), "{name}: {error}");
    assert!(!error.contains('\n') && error.len() < 2000, "{name}: {error}");
}

fn assert_ends(name: &str, source: &str) {
    match outcome(source) {
        Ok(text) => assert!(text.len() < 1 << 28, "{name}: {} bytes", text.len()),
        Err(_) => assert_refused(name, source),
    }
}

#[test]
fn expressions_within_expressions_do_not_overflow_the_stack() {
    let many = 40_000;
    for (name, begin, middle, end) in [
        ("parentheses", "(", "1", ")"),
        ("lists", "[", "1", "]"),
        ("objects", "{'a':", "1", "}"),
        ("not", "not ", "1", ""),
        ("minus", "-", "1", ""),
        ("sums", "1+", "1", ""),
        ("sums of names", "x+", "x", ""),
        ("joined texts", "x~", "x", ""),
        ("powers", "1**", "1", ""),
        ("comparisons", "1<", "1", ""),
        ("and", "1 and ", "1", ""),
        ("or", "x or ", "x", ""),
        ("filters", "", "x", "|upper"),
        ("attributes", "", "x", ".a"),
        ("indices", "", "x", "[0]"),
        ("calls", "", "x", "()"),
        ("tests", "", "1", " is odd"),
        ("conditions", "1 if 1 else ", "1", ""),
        ("slices", "", "x", "[:]"),
        ("arguments", "f(", "1", ")"),
        ("in", "1 in ", "x", ""),
    ] {
        let count = (240_000 / (begin.len() + end.len())).min(many);
        let source = format!("{{{{ {}{middle}{} }}}}", begin.repeat(count), end.repeat(count));
        assert_ends(name, &source);
    }
}

#[test]
fn blocks_within_blocks_do_not_overflow_the_stack() {
    for (name, begin, end) in [
        ("if", "{%if 1%}", "{%endif%}"),
        ("for", "{%for x in [1]%}", "{%endfor%}"),
        ("set", "{%set x%}", "{%endset%}"),
        ("with", "{%with%}", "{%endwith%}"),
        ("filter", "{%filter upper%}", "{%endfilter%}"),
        ("macro", "{%macro m()%}", "{%endmacro%}"),
        ("elif", "{%if 0%}{%elif 0%}", "{%endif%}"),
        ("generation", "{%generation%}", "{%endgeneration%}"),
        ("autoescape", "{%autoescape true%}", "{%endautoescape%}"),
    ] {
        let count = 240_000 / (begin.len() + end.len());
        assert_ends(name, &format!("{}{}", begin.repeat(count), end.repeat(count)));
    }
    assert_ends("one if of many branches", &format!("{{%if 0%}}{}{{%endif%}}", "{%elif 0%}".repeat(20_000)));
}

#[test]
fn what_calls_itself_is_ended() {
    for (name, source) in [
        ("macro", "{%macro m()%}{{m()}}{%endmacro%}{{m()}}"),
        ("two macros", "{%macro a()%}{{b()}}{%endmacro%}{%macro b()%}{{a()}}{%endmacro%}{{a()}}"),
        ("include", "{%include 'chat_template'%}"),
        ("extends", "{%extends 'chat_template'%}"),
        ("import", "{%import 'chat_template' as c%}"),
        ("from", "{%from 'chat_template' import c%}"),
        ("block", "{%block a%}{{self.a()}}{%endblock%}"),
        ("recursive loop", "{%for x in [1] recursive%}{{loop([1])}}{%endfor%}"),
        ("caller", "{%macro m()%}{%call m()%}{{caller()}}{%endcall%}{%endmacro%}{{m()}}"),
        (
            "endless loops",
            "{%for a in range(90000)%}{%for b in range(90000)%}{%for c in range(90000)%}{%endfor%}{%endfor%}{%endfor%}",
        ),
        (
            "endless output",
            "{%for a in range(90000)%}{%for b in range(90000)%}{{'x'*1000}}{%endfor%}{%endfor%}",
        ),
        (
            "endless list",
            "{%set n=namespace(x=[])%}{%for a in range(90000)%}{%for b in range(90000)%}{%set n.x=n.x+[a]%}{%endfor%}{%endfor%}",
        ),
    ] {
        assert_refused(name, source);
    }
}

/// `x` within itself as often as the loop goes.
fn nested(step: &str, count: usize, then: &str) -> String {
    format!(
        "{{%set n=namespace(x=1,y=1)%}}{{%for i in range({count})%}}{{%set n.x={}%}}{{%set n.y={}%}}{{%endfor%}}{then}",
        step.replace('x', "n.x"),
        step.replace('x', "n.y"),
    )
}

const WRITTEN: [&str; 18] = [
    "{{n.x}}",
    "{{n.x|string|length}}",
    "{{n.x|tojson|length}}",
    "{{n.x|tojson(indent=4)|length}}",
    "{{(n.x~'')|length}}",
    "{{(''~n.x)|length}}",
    "{{n.x|pprint|length}}",
    "{{[n.x]|join('')|length}}",
    "{{', '.join([n.x])|length}}",
    "{{'%s'|format(n.x)|length}}",
    "{{'{}'.format(n.x)|length}}",
    "{{n.x|trim|length}}",
    "{{n.x|upper|length}}",
    "{{n.x|replace('a','b')|length}}",
    "{{n.x|indent|length}}",
    "{{n.x|e|length}}",
    "{{n.x|list|length}}",
    "{{raise_exception(n.x)}}",
];

const COMPARED: [&str; 8] = [
    "{{n.x == n.y}}",
    "{{n.x < n.y}}",
    "{{n.x in [n.y]}}",
    "{{[n.x,n.y]|sort|length}}",
    "{{[n.x,n.y]|unique|length}}",
    "{{[n.x,n.y]|max|length}}",
    "{{ {n.x: 1, n.y: 2}|length }}",
    "{{[{'k':n.x},{'k':n.y}]|groupby('k')|length}}",
];

#[test]
fn values_within_values_do_not_overflow_the_stack() {
    let steps = ["[x]", "{'a':x}", "(x,)", "[x]|list", "x|batch(1)", "[x]+[]"];
    for (index, then) in WRITTEN.iter().chain(&COMPARED).enumerate() {
        // The way in which they are nested matters less than what is done with them.
        let step = steps[index % steps.len()];
        assert_ends(&format!("{step} {then}"), &nested(step, 30_000, then));
        assert_ends(&format!("[x] {then}"), &nested("[x]", 30_000, then));
    }
}

#[test]
fn values_that_hold_others_many_times_are_never_written_out() {
    for then in &WRITTEN {
        assert_ends(&format!("[x,x] {then}"), &nested("[x,x]", 60, then));
    }
    for step in ["{'a':x,'b':x}", "(x,x)", "[x]*2", "[x]+[x]"] {
        assert_refused(step, &nested(step, 60, "{{n.x}}"));
    }
    // Comparing takes the engine as long as it is let.
    assert_refused("==", &nested("[x,x]", 60, "{{n.x == n.y}}"));
}

#[test]
fn texts_that_double_are_ended() {
    for step in [
        "x~x",
        "x|string+x|string",
        "(x|string)*2",
        "[x,x]|join",
        "''.join([x|string,x|string])",
        "'%s%s'|format(x,x)",
        "'{0}{0}'.format(x)",
        "x|string|replace('1','11')",
        "(x|string).replace('1','11')",
        "x|string|indent(9,true)|replace(' ','  ')",
        "[x,x]|tojson",
        "[x,x]|string",
        "x|tojson|tojson",
        "[x,x]|pprint",
        "(x~x)|list|join(x)",
        "x|string|title~x",
        "(x|string).split('1')|join(x~x)",
    ] {
        assert_refused(step, &nested(step, 80, "{{n.x|length}}"));
    }
}

#[test]
fn single_operations_that_take_all_memory_are_ended() {
    let huge = "1000000000000";
    for source in [
        "'a'*HUGE",
        "('a',)*HUGE|length",
        "([0]*HUGE)|list",
        "range(HUGE)|list",
        "range(HUGE)",
        "'a'|indent(HUGE,true)",
        "'%1000000000d'|format(1)",
        "'%.1000000000f'|format(1.5)",
        "'%*d'|format(1000000000,1)",
        "'{:1000000000}'.format(1)",
        "'{:.1000000000f}'.format(1.5)",
        "'{:>1000000000}'.format('a')",
        "[1]|batch(HUGE,'x')|list",
        "[1]|slice(HUGE)|list",
        "[1]|tojson(indent=HUGE)",
        "[1]|tojson(indent='a'*60000000)",
        "[1,2]|tojson(separators=('a'*60000000,'b'))",
        "strftime_now('%Y'*60000000)",
        "strftime_now('%255255255d')",
        "'a'.center(HUGE)",
        "'a'|center(HUGE)",
        "'a'.ljust(HUGE)",
        "'a'.zfill(HUGE)",
        "('a'*30000000).replace('a','b'*30000000)",
        "'a'*30000000|replace('a','b'*30000000)",
        "('a'*30000000).replace('','b'*30000000)",
        "range(90000)|join('a'*30000000)",
        "('a'*30000000).join(range(90000))",
        "('a'*30000000)|wordcount",
        "('a'*30000000).strip('b'*30000000~'a')",
        "('a'*30000000)|trim('b'*30000000~'a')",
        "raise_exception('a'*60000000)",
        "dict(a='a'*60000000)['a'*60000000]",
        "undefined_function_name('a'*60000000)",
        "10**10**10",
        "'a'['b'*60000000]",
    ] {
        assert_ends(source, &format!("{{{{ {} }}}}", source.replace("HUGE", huge)));
    }
}

#[test]
fn much_work_in_few_steps_is_ended() {
    let text = "{%set t='a'*1000000%}{%set l=range(90000)|list%}";
    for work in [
        "t.count('b')",
        "t.find('b')",
        "'b' in t",
        "t|length",
        "t.strip('a')",
        "t|trim('a')",
        "t.split('b')|length",
        "t.startswith('a')",
        "t == t~''",
        "t.upper()|length",
        "t|reverse|length",
        "t|list|length",
        "t[::2]|length",
        "l|sum",
        "l|sort|length",
        "l|unique|length",
        "89999 in l",
        "l == l|list",
        "l|map('string')|list|length",
        "l|select('odd')|list|length",
        "l|join|length",
        "l|last",
        "l|max",
        "l|tojson|length",
        "l[::-1]|length",
        "t|title|length",
        "t|wordcount",
        "t|center(9)|length",
        "l|batch(2)|length",
        "dict(a=1)|dictsort|length",
        "t.splitlines()|length",
        "t.isalpha()",
        "t.rfind('b')",
        "t.title()|length",
        "t.capitalize()|length",
    ] {
        assert_refused(
            work,
            &format!(
                "{text}{{%for a in range(90000)%}}{{%for b in range(90000)%}}{{%set x={work}%}}{{%endfor%}}{{%endfor%}}"
            ),
        );
    }
}

#[test]
fn a_template_of_any_length_but_one_in_use_is_refused() {
    let error = outcome(&"a".repeat((256 << 10) + 1)).unwrap_err().to_string();
    assert_eq!(
        error,
        "`chat_template.jinja`: the chat template: expected a template of at most 256 KiB, found 262145 bytes"
    );
    assert_eq!(outcome(&"a".repeat(256 << 10)).unwrap().len(), 256 << 10);
}

#[test]
fn a_long_conversation_has_the_steps_that_it_needs() {
    let source = "{%for m in messages%}<{{m.role}}>{{m.content|trim|replace('a','b')}}{%if loop.last%}!{%endif%}{%endfor%}";
    let template = ChatTemplate::new(PathBuf::from("chat_template.jinja"), source, Map::new()).unwrap();
    let content = "a".repeat(1000);
    let messages = vec![Message { role: "user", content: &content }; 20_000];
    assert_eq!(template.render(&messages).unwrap().len(), 20_000 * 1006 + 1);
    let content = "a".repeat(50_000_000);
    assert_eq!(template.render(&[Message { role: "user", content: &content }]).unwrap().len(), 50_000_007);
}
