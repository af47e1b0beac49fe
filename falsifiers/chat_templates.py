"""Chat templates of the kinds that Qwen's files carry, conversations for them, and hostile ones.

Written for the falsifiers from the features that the real ones use; knows no engine.
"""

import ast
import importlib.util
from pathlib import Path
from typing import Any

QWEN2_TOOLS = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You help.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\n{\\"name\\": <name>}<|im_end|>\\n" }}
{%- elif messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) or
           (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' ~ tool_call.name ~ '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

QWEN3_THINKING = """\
{%- set ns = namespace(searching=true, last_query=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string and
           not (message.content.startswith('<tool_response>') and
                message.content.endswith('</tool_response>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last_query = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- set thought = '' %}
    {%- if message.reasoning_content is string %}
        {%- set thought = message.reasoning_content %}
    {%- elif '</think>' in content %}
        {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1] %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + ('user' if message.role == 'tool' else message.role) + '\\n' }}
    {%- if message.role == "assistant" and loop.index0 > ns.last_query and
           (loop.last or thought) %}
        {{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
    {%- else %}
        {{- content }}
    {%- endif %}
    {%- for call in message.tool_calls or [] %}
        {%- if (loop.first and content) or (not loop.first) %}{{- '\\n' }}{%- endif %}
        {{- '<tool_call>' + call.function.name + ' ' }}
        {%- if call.function.arguments is string %}
            {{- call.function.arguments }}
        {%- else %}
            {{- call.function.arguments | tojson }}
        {%- endif %}
        {{- '</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

CODER_MACROS = """\
{% macro extra(fields, handled) %}
    {%- if fields is mapping %}
        {%- for key in fields if key not in handled %}
            {%- if fields[key] is mapping or (fields[key] is sequence and
                                              fields[key] is not string) %}
                {{- '\\n<' ~ key ~ '>' ~ (fields[key] | tojson | safe) ~ '</' ~ key ~ '>' }}
            {%- else %}
                {{- '\\n<' ~ key ~ '>' ~ (fields[key] | string) ~ '</' ~ key ~ '>' }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
{% endmacro %}
{%- if tools is iterable and tools | length > 0 %}
    {%- for tool in tools %}
        {%- set tool = tool.function %}
        {{- "\\n<name>" ~ tool.name ~ "</name>" ~ (tool.description | trim) }}
        {%- for name, fields in tool.parameters.properties|items %}
            {{- '\\n<parameter>' ~ name ~ extra(fields, ['description']) ~ '</parameter>' }}
        {%- endfor %}
        {% set handled = ['properties'] %}
        {{- extra(tool.parameters, handled) }}
    {%- endfor %}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "tool" %}
        {%- if loop.previtem and loop.previtem.role != "tool" %}
            {{- '<|im_start|>user\\n' }}
        {%- endif %}
        {{- '<tool_response>\\n' ~ message.content ~ '\\n</tool_response>\\n' }}
        {%- if loop.last or loop.nextitem.role != "tool" %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- else %}
        {{- '<|im_start|>' + message.role }}
        {%- for call in message.tool_calls or [] %}
            {%- for name, value in call.function.arguments|items %}
                {{- '\\n' + name + '=' ~ (value | tojson if value is mapping else value | string) }}
            {%- endfor %}
        {%- endfor %}
        {{- '\\n' ~ message.content | default('', true) | trim ~ '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
"""

BLOCKS_AND_LOOPS = """\
{# A comment
   of two lines. #}
{{ bos_token }}{{ strftime_now("%Y") }} {{ unknown_variable }}{{ pad_token }}
  {% if documents %}
    {% for document in documents %}
  {{ loop.index }}. {{ document.title }} {{ document | tojson(indent=2, sort_keys=true) }}
    {% endfor %}
  {% endif %}
{% for message in messages %}
    {% if message.role == 'system' %}{% continue %}{% endif %}
    {% if message.role == 'assistant' %}
        {% generation %}
            {% set inner = message.content %}{{ inner }}{{ eos_token }}
        {% endgeneration %}
        {{ inner | default('gone') }}
    {% elif message.role == 'tool' %}
        {{ message | tojson }}
        {% break %}
    {% else %}
<{{ message.role }}> {{ message.content }} {{ loop.cycle('odd', 'even') }}
    {% endif %}
{% else %}
nobody spoke
{% endfor %}
{% if not messages[-1].content and not messages[-1].tool_calls %}
    {{ raise_exception('The last message is empty: ' ~ messages[-1].role) }}
{% endif %}
{{ messages | map(attribute='role') | unique | join(',') }} {{ messages[0] | length }} \
{{ dict(a=1).items() | list }} {{ range(3) | list }} {{ "%05.1f" | format(2.25) }}

"""

PLAIN = {
    "tools as Qwen2.5": QWEN2_TOOLS,
    "thinking as Qwen3": QWEN3_THINKING,
    "macros as Qwen3-Coder": CODER_MACROS,
    "blocks, loops and generation": BLOCKS_AND_LOOPS,
    "keys of a message": "{% for m in messages %}{{ m | tojson }}{{ m.keys() | sort }}{% endfor %}",
    "syntax error": "{% for m in messages %}",
    "error in an attribute": "{{ messages[0].nothing.deeper }}",
}
# Templates that the transformers package itself holds: its file, and the name that they have there.
IN_TRANSFORMERS = {
    "models/llama4/processing_llama4.py": "chat_template",
    "models/smolvlm/processing_smolvlm.py": "DEFAULT_CHAT_TEMPLATE",
}

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": " The weather <b>now</b> & later, in °C; \"quoted\" 'text' ",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {
                    "type": "string",
                    "description": "Zürich, 東京",
                    "enum": ["Zürich", "東京"],
                },
                "days": {"type": ["integer", "null"], "minimum": 1, "default": None},
            },
            "required": ["city"],
        },
    },
}
ASKED = {"role": "user", "content": "Weather in 東京 & Zürich?"}
CALLS = [
    {
        "type": "function",
        "id": "1",
        "function": {"name": "get_weather", "arguments": {"city": "東京"}},
    },
    {
        "type": "function",
        "id": "2",
        "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": {"n": 2.5}}},
    },
]
ANSWERS = [
    {"role": "tool", "tool_call_id": "1", "content": '{"temp": 21, "sky": "<clear>"}'},
    {"role": "tool", "tool_call_id": "2", "content": "7 °C"},
]
FULL = [
    {"role": "system", "content": "Be brief."},
    ASKED,
    {"role": "assistant", "content": None, "tool_calls": CALLS},
    *ANSWERS,
    {"role": "assistant", "content": "<think>\nsunny\n</think>\n\n21 and 7."},
    {"role": "user", "content": "Thanks"},
]
CONVERSATIONS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "one question": ([{"role": "user", "content": "Hello"}], {}),
    "with a system message": ([{"role": "system", "content": "Be brief."}, ASKED], {}),
    "tools offered": ([ASKED], {"tools": [WEATHER, WEATHER]}),
    "no tools": ([ASKED], {"tools": []}),
    "tool calls answered": (FULL[:5], {"tools": [WEATHER]}),
    "several steps": ([*FULL[:5], *FULL[2:5]], {"tools": [WEATHER]}),
    "after the tools": (FULL, {"tools": [WEATHER]}),
    "arguments as text": (
        [
            ASKED,
            {
                "role": "assistant",
                "content": "I look.",
                "tool_calls": [{"function": {"name": "f", "arguments": '{"a": "é"}'}}],
            },
            ANSWERS[0],
        ],
        {},
    ),
    "thought in a field": (
        [ASKED, {"role": "assistant", "reasoning_content": "\nhm\n", "content": "\nFine."}],
        {},
    ),
    "thought as others call it": (
        [ASKED, {"role": "assistant", "reasoning": "hm", "content": "Fine."}, ASKED],
        {},
    ),
    "thought in the text": (
        [ASKED, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nFine."}],
        {},
    ),
    "thinking off": ([ASKED], {"enable_thinking": False}),
    "thinking on": ([ASKED], {"enable_thinking": True}),
    "documents": ([ASKED], {"documents": [{"title": "Ä", "text": "<b>"}, {"title": "2", "a": 1}]}),
    "content in parts": ([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], {}),
    "its own end": ([ASKED, {"role": "assistant", "content": "7"}], {"eos_token": "<end>"}),
    "nothing said": ([{"role": "user", "content": ""}], {}),
    "values of None": ([{"role": "user", "content": "x", "name": None, "tool_calls": None}], {}),
}


def templates_in_transformers() -> dict[str, str]:
    """Read, not imported: their modules load torch and vision."""
    package = Path(importlib.util.find_spec("transformers").origin).parent
    files = {name: package / name for name in IN_TRANSFORMERS}
    return {
        name: _constant(path, IN_TRANSFORMERS[name])
        for name, path in files.items()
        if path.exists()
    }


def _constant(path: Path, name: str) -> str:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"{path} has no {name}")


HOSTILE = (
    "{{ ''.__class__ }}",
    "{{ ''['__class__'] }}",
    "{{ messages.__class__.__base__.__subclasses__() }}",
    "{{ messages | attr('__class__') }}",
    "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "{{ '{0.__class__}'.format_map({'0': 1}) }}",
    "{% set f = '{a.__class__}'.format %}{{ f(a=1) }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__globals__['json'] }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ lipsum.__globals__['os'] }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context.environment.loader.x }}",
    "{{ messages[0].keys.__self__ }}",
    "{{ dict.mro() }}",
    "{{ dict.__subclasses__() }}",
    "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "{% for m in messages %}{{ loop._iterator.__reduce__() }}{% endfor %}",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "{% set ns = namespace(__html__=1) %}",
    "{% set ns = namespace({'_Namespace__attrs': 1}) %}",
    "{{ messages.append({'role': 'system', 'content': 'Obey.'}) }}",
    "{{ messages.clear() }}",
    "{{ messages[0].update({'role': 'system'}) }}",
    "{{ messages[0].pop('role') }}",
    "{{ messages.sort() }}{{ messages.reverse() }}",
    "{{ tools[0].function.clear() }}",
    "{% include '/etc/hostname' %}",
    "{% import '/etc/hostname' as x %}",
    "{% extends 'x' %}",
    "{{ range(1000000000) | list }}",
    "{% for i in range(99999999999) %}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ 1 / 0 }}",
    "{{ messages | nothing }}",
    "{% unknown %}",
)

# Template -> the line where it fails.
FAILING = {
    "{% if messages %}\n\n{% endfor %}": 3,
    "a\nb\n{{ messages[0].no.thing }}\nc": 3,
    "a\n{%- if true %}\n  {{ raise_exception('no') }}{% endif %}": 3,
    "{% macro m(x) %}\n{{ x.no.thing }}\n{% endmacro %}\n\n{{ m(1) }}": 2,
    "{# one\ntwo\nthree #}\n{{ ''.__class__.x }}": 4,
    "\n{{ messages | nothing }}": 2,
    "{% for m in messages %}\n\n\n\n{{ 1 / 0 }}{% endfor %}": 5,
    "\n\n{{ messages[0].content + 1 }}": 3,
}
