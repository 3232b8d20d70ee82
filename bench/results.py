"""What was measured, one JSON document a line, so that an interrupted run goes on where it was.

A round of a test is written as one piece: its subjects are compared with each other, so a round that was broken off is
measured anew as a whole.
"""
import json, os, statistics


class Results:
    def __init__(self, path):
        self.path = path
        self.records = []
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if os.path.exists(path):
            with open(path, "r+") as out:
                text = out.read()
                whole = text[:text.rfind("\n") + 1]
                self.records = [json.loads(line) for line in whole.splitlines()]
                # A last line that was broken off would spoil the next.
                out.truncate(len(whole.encode()))

    def add(self, **record):
        self.records.append(record)
        with open(self.path, "a") as out:
            out.write(json.dumps(record) + "\n")

    def rounds(self, stage, test):
        """How many rounds of this test there are."""
        return sum(1 for record in self.records
                   if record["kind"] == "round" and record["stage"] == stage and record["test"] == test)

    def storage(self, stage, server=None):
        """What data takes: of one server or of all."""
        found = {record["server"]: record for record in self.records
                 if record["kind"] == "storage" and record["stage"] == stage}
        return found.get(server) if server else found

    def machine(self):
        return next((record for record in self.records if record["kind"] == "machine"), None)

    def stages(self):
        seen = dict.fromkeys(record["stage"] for record in self.records if record["kind"] == "round")
        return list(seen)

    def tests(self, stage):
        seen = dict.fromkeys(record["test"] for record in self.records
                             if record["kind"] == "round" and record["stage"] == stage)
        return list(seen)

    def subjects(self, stage, test):
        seen = {}
        for record in self.records:
            if record["kind"] == "round" and (record["stage"], record["test"]) == (stage, test):
                seen.update(dict.fromkeys(record["subjects"]))
        return list(seen)

    def label(self, stage, subject):
        for record in self.records:
            if record["kind"] == "round" and record["stage"] == stage and subject in record["subjects"]:
                return record["subjects"][subject]["label"]
        return subject

    def values(self, stage, test, subject, *path):
        """The figure at `path` in every round."""
        found = []
        for record in self.records:
            if record["kind"] == "round" and (record["stage"], record["test"]) == (stage, test):
                value = record["subjects"].get(subject)
                for step in path:
                    value = value.get(step) if isinstance(value, dict) else None
                if value is not None:
                    found.append(value)
        return found

    def median(self, stage, test, subject, *path):
        """The median over rounds, or None."""
        values = self.values(stage, test, subject, *path)
        return statistics.median(values) if values else None
