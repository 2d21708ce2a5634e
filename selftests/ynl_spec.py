#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""ynl_spec.py: the YNL spec, the UAPI header and the module's policies say the same.

Compares names, values and order of every enum both ways, the types of attributes (the header
has them in its comments), and what each command accepts (the tables of policy.c, netlink.c).
Runs on the host. Arguments, for tests of this test: the top directory of a tree.
"""
import re
import sys
from pathlib import Path

try:
    import yaml
except ImportError:
    sys.exit("Bail out! python3-yaml is not installed")

POLICY = r"\[(\w+)\]\s*=[^,]*?NLA_(U8|U16|U32|U64|FLAG|BINARY|NESTED)\b"
SCALARS = {"u8", "u16", "u32", "u64", "flag", "binary", "nest"}


class Tap:
    def __init__(self):
        self.count = self.failed = 0

    def same(self, name, spec, source):
        """One test: the two sides are equal; says what only one of them has."""
        self.count += 1
        if spec == source:
            print(f"ok {self.count} {name}")
            return
        self.failed += 1
        print(f"not ok {self.count} {name}")
        print(f"#   spec:   {spec}\n#   source: {source}")

    def finish(self):
        print(f"1..{self.count}")
        return 1 if self.failed or not self.count else 0


def c_name(*parts):
    return "".join(parts).upper().replace("-", "_")


class Spec:
    """What the header has to look like, from the spec."""

    def __init__(self, path):
        self.yaml = yaml.safe_load(path.read_text())
        self.family = self.yaml["name"]
        self.sets = {s["name"]: s for s in self.yaml["attribute-sets"]}
        self.ops = self.yaml["operations"]["list"]

    def enums(self):
        """{name of the C enum: ([(name, value)], it has a MAX)}"""
        found = {}
        for d in self.yaml["definitions"]:
            if d["type"] not in ("enum", "flags"):
                continue
            prefix = d.get("name-prefix", f"{self.family}-{d['name']}-")
            found[f"{self.family}-{d['name']}"] = (self.entries(d, prefix), d.get("render-max", False))
        for s in self.sets.values():
            found[s["enum-name"]] = (self.numbered(s["attributes"], s["name-prefix"]), True)
        ops = self.yaml["operations"]
        found[ops["enum-name"]] = (self.numbered(ops["list"], ops["name-prefix"]), True)
        return {c_name(k).lower(): v for k, v in found.items()}

    @staticmethod
    def entries(definition, prefix):
        flags = definition["type"] == "flags"
        value, out = definition.get("value-start", 0), []
        for entry in definition["entries"]:
            entry = {"name": entry} if isinstance(entry, str) else entry
            value = entry.get("value", value)
            out.append((c_name(prefix, entry["name"]), 1 << value if flags else value))
            value += 1
        return out

    @staticmethod
    def numbered(items, prefix):
        value, out = 1, [(c_name(prefix, "unspec"), 0)]
        for item in items:
            value = item.get("value", value)
            out.append((c_name(prefix, item["name"]), value))
            value += 1
        return out

    def types(self, name):
        """{C name: type} of one attribute set."""
        s = self.sets[name]
        return {c_name(s["name-prefix"], a["name"]): a["type"] for a in s["attributes"] if a["type"] != "pad"}

    def nests(self):
        return {c_name(s["name-prefix"], a["name"]): c_name(self.sets[a["nested-attributes"]]["name-prefix"])
                for s in self.sets.values() for a in s["attributes"] if a["type"] == "nest"}

    def requests(self):
        """{C name of the command: {C name of an accepted attribute: type}}"""
        out, prefix = {}, self.yaml["operations"]["name-prefix"]
        for op in self.ops:
            if "do" not in op and "dump" not in op:
                continue
            types = self.types(op["attribute-set"])
            names = [n for kind in ("do", "dump")
                     for n in op.get(kind, {}).get("request", {}).get("attributes", [])]
            attrs = [c_name(self.sets[op["attribute-set"]]["name-prefix"], n) for n in names]
            out[c_name(prefix, op["name"])] = {a: types[a] for a in attrs}
        return out

    def handlers(self):
        prefix = self.yaml["operations"]["name-prefix"]
        return {c_name(prefix, op["name"]): sorted(k for k in ("do", "dump") if k in op)
                for op in self.ops if "do" in op or "dump" in op}

    def unknown_names(self):
        """Attributes that an operation names and its set does not have."""
        bad = []
        for op in self.ops:
            if "attribute-set" not in op:
                continue
            known = {a["name"] for a in self.sets[op["attribute-set"]]["attributes"]}
            lists = [op.get("event", {}).get("attributes", [])]
            lists += [op.get(k, {}).get(way, {}).get("attributes", [])
                      for k in ("do", "dump") for way in ("request", "reply")]
            bad += [f"{op['name']}: {n}" for names in lists for n in names if n not in known]
        return bad


class Header:
    """The UAPI header."""

    def __init__(self, path):
        self.text = path.read_text()
        self.defines = dict(re.findall(r"^#define[ \t]+(\w+)[ \t]+(.+?)[ \t]*$", self.text, re.M))
        self.values, self.comments, self.enums = {}, {}, {}
        for name, body in re.findall(r"^enum (\w+) \{\n(.*?)^\};", self.text, re.M | re.S):
            self.enums[name] = self.members(body)

    def members(self, body):
        value, out = 0, []
        for line in body.splitlines():
            m = re.match(r"\s*(\w+)\s*(?:=\s*([^,]+?)\s*)?,\s*(?:/\*\s*(.*?)\s*\*/)?\s*$", line)
            if not m:
                raise SystemExit(f"Bail out! a line of an enum that is not understood: {line!r}")
            name, given, comment = m.groups()
            if given:
                shift = re.fullmatch(r"(\d+)\s*<<\s*(\d+)", given)
                value = int(shift[1]) << int(shift[2]) if shift else int(given, 0)
            out.append((name, value))
            self.values[name], self.comments[name] = value, comment or ""
            value += 1
        return out

    def enum(self, name):
        return [(n, v) for n, v in self.enums.get(name, []) if not n.startswith("__")]

    def max_of(self, name):
        """The name before _MAX, when the enum ends with one and the define follows from it."""
        last = (self.enums.get(name) or [("", 0)])[-1][0]
        m = re.fullmatch(r"__(\w+)_MAX", last)
        if m and self.defines.get(f"{m[1]}_MAX") == f"({last} - 1)":
            return m[1]
        return None

    def types(self, name):
        """The first word of each attribute's comment that is a type; the heading may have it for all."""
        heading = re.search(r"/\*([^/]*)\*/\s*enum " + name + r" \{", self.text)
        common = re.search(r"all (\w+)", heading[1]) if heading else None
        out = {}
        for attr, _ in self.enum(name)[1:]:
            word = re.match(r"\w*", self.comments[attr])[0]
            if attr.endswith("_PAD"):
                continue
            if word not in SCALARS:
                word = common[1] if common else f"no type: {self.comments[attr]}"
            out[attr] = word
        return out

    def nests(self):
        found = {a: re.match(r"nest (?:of )?(?:(\w+)_\*)?", c) for a, c in self.comments.items()}
        return {a: m[1] + "_" for a, m in found.items() if m and m[1]}


def module_requests(kmod):
    """({command: {attribute: type}}, {command: [do, dump]}) from the module's tables."""
    policies, accepts, handlers = {}, {}, {}
    source = "".join(p.read_text() for p in sorted(kmod.glob("*.c")))
    for name, body in re.findall(r"const struct nla_policy (\w+)\[[^\]]*\] = \{(.*?)\};\n", source, re.S):
        policies[name] = {a: t.lower() for a, t in re.findall(POLICY, body)}
    table = re.search(r"struct genl_ops \w+\[\] = \{\n(.*?)\n\};", source, re.S)
    for entry in re.findall(r"\{(.*?)\},\n", table[1] + "\n", re.S) if table else []:
        cmd = re.search(r"\.cmd = (\w+)", entry)[1]
        policy = re.search(r"SKSPLICE_POLICY\((\w+)\)", entry)
        accepts[cmd] = policies.get(policy[1], "policy not found") if policy else "no policy"
        handlers[cmd] = sorted(k for k, f in (("do", ".doit"), ("dump", ".dumpit")) if f in entry)
    return accepts, handlers


def compare_header(tap, spec, header):
    enums = spec.enums()
    tap.same("the same enums are in both", sorted(enums), sorted(header.enums))
    for name, (members, has_max) in enums.items():
        tap.same(f"enum {name}: names, values, order", members, header.enum(name))
        if has_max:
            maximum = header.max_of(name)
            tap.same(f"enum {name}: ends with its maximum", True,
                     bool(maximum) and members[-1][0].startswith(maximum))
    for s in spec.sets.values():
        enum = c_name(s["enum-name"]).lower()
        tap.same(f"enum {enum}: types", spec.types(s["name"]), header.types(enum))
    tap.same("nests", spec.nests(), header.nests())
    tap.same("name of the family", f'"{spec.family}"', header.defines.get(c_name(spec.yaml["c-family-name"])))
    tap.same("version of the family", str(spec.yaml.get("version", 1)),
             header.defines.get(c_name(spec.yaml["c-version-name"])))
    for group in spec.yaml["mcast-groups"]["list"]:
        tap.same(f"multicast group {group['name']}", f'"{group["name"]}"',
                 header.defines.get(c_name(spec.family, "-mcgrp-", group["name"])))


def compare_module(tap, spec, kmod):
    accepts, handlers = module_requests(kmod)
    wanted, kinds = spec.requests(), spec.handlers()
    tap.same("the same commands are handled", sorted(wanted), sorted(accepts))
    for cmd, attrs in wanted.items():
        tap.same(f"{cmd}: accepted attributes", attrs, dict_in_order(attrs, accepts.get(cmd)))
        tap.same(f"{cmd}: do, dump", kinds[cmd], handlers.get(cmd))


def dict_in_order(like, other):
    """Equal dictionaries print equally."""
    if not isinstance(other, dict):
        return other
    order = list(like) + sorted(set(other) - set(like))
    return {k: other[k] for k in order if k in other}


def main():
    top = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    spec = Spec(top / "Documentation/netlink/specs/sksplice.yaml")
    header = Header(top / "kmod/uapi/sksplice.h")
    tap = Tap()
    tap.same("operations name attributes that exist", [], spec.unknown_names())
    compare_header(tap, spec, header)
    compare_module(tap, spec, top / "kmod")
    return tap.finish()


if __name__ == "__main__":
    sys.exit(main())
