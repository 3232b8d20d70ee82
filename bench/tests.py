"""python3 -B -m unittest discover -s bench -p tests.py"""
import os, socket, struct, tempfile, threading, unittest
from types import SimpleNamespace

import document, goals, grpc, plot, report
from plan import SWEEPS, Planner
from processes import Processes
from results import Results


def options(**changed):
    given = {"binary": "moim", "engine": "lsm", "keys": 1000, "connections": 48, "sweep": [], "only_sweeps": False,
             "without": [], "key_counts": [1000, 10_000], "value_size": 64, "memory": 0}
    return SimpleNamespace(**{**given, **changed})


def measured(directory, costs):
    """Results of one round of GET P1 that cost so much, by subject."""
    results = Results(os.path.join(directory, "results.jsonl"))
    results.add(kind="machine", facts={"date": "today"})
    subjects = {key: {"label": key, "cpu_us": cost, "user_us": cost / 2, "ops_s": 1000.0,
                      "reads": {"p50_ms": 1.0, "p99_ms": 2.0, "p999_ms": 3.0}} for key, cost in costs.items()}
    results.add(kind="round", stage="figures", test="GET P1", round=0, at=None, subjects=subjects)
    return results


class Tests(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.directory = holder.name

    def test_every_stage_names_subjects_that_it_has(self):
        for stage in Planner(options(sweep=SWEEPS)).stages():
            names = {subject.key for subject in stage.subjects}
            for test in stage.tests:
                self.assertLessEqual(set(test.subjects), names, test.name)
                if test.load_of:
                    self.assertIn(test.load_of, [other.name for other in stage.tests])

    def test_clusters_that_share_nothing_are_filled_each(self):
        stage = Planner(options(sweep=["nodes"], only_sweeps=True)).stages()[-1]
        sizes = {}
        for server in stage.servers():
            server.addresses = [str(at) for at in range(12)]
            sizes[server.key] = [len(part) for part in server.parts()]
        self.assertEqual(sizes, {"masters": [12], "moim": [12], "apart": [3, 3, 3, 3]})

    def test_what_is_left_out_is_nowhere(self):
        stage, _ = Planner(options(without=["etcd", "redis-cluster"])).stages()
        self.assertFalse({"etcd", "etcd-serializable", "wait"} & {subject.key for subject in stage.subjects})
        self.assertFalse(any("wait" in test.subjects for test in stage.tests))

    def test_goals_have_steps(self):
        goal = goals.Goal("", None, 3, 2, 1)
        self.assertEqual([goal.verdict(value) for value in (4, 3, 2, 0.5)],
                         ["must missed", "must met", "target met", "stretch met"])
        self.assertEqual(goals.Goal("", None, 4, 7, 8, most=False).verdict(7.5), "target met")

    def test_ratios_come_from_rounds(self):
        results = measured(self.directory, {"redis": 10.0, "moim": 25.0, "etcd": 100.0})
        text = report.goals(results)
        self.assertIn("2.50", text)
        self.assertIn("4.00", text)
        self.assertIn("not measured", text)

    def test_a_torn_line_is_measured_again(self):
        results = measured(self.directory, {"redis": 10.0})
        with open(results.path, "a") as out:
            out.write('{"kind": "round", "sta')
        again = Results(results.path)
        self.assertEqual(again.rounds("figures", "GET P1"), 1)
        again.add(kind="round", stage="figures", test="GET P1", round=1, at=None, subjects={})
        self.assertEqual(Results(results.path).rounds("figures", "GET P1"), 2)

    def test_the_document_keeps_what_people_wrote(self):
        results = measured(self.directory, {"redis": 10.0, "moim": 25.0})
        path = os.path.join(self.directory, "performance.md")
        with open(path, "w") as page:
            page.write(f"# Ours\n\n{document.BEGIN}\nold\n{document.END}\n\nafter\n")
        for _ in range(2):
            written = document.write(results, "make bench", self.directory)
        with open(path) as page:
            text = page.read()
        self.assertTrue(text.startswith("# Ours\n") and text.endswith("\n\nafter\n"), text)
        self.assertNotIn("old", text)
        self.assertTrue(all(os.path.exists(file) for file in written))

    def test_plots_are_drawn_with_gaps(self):
        svg = plot.lines("<title>", ["1", "2"], [("a", [1.0, None]), ("b", [2.0, 3.0])], "µs")
        self.assertIn("&lt;title&gt;", svg)
        self.assertEqual(svg.count("<polyline"), 2)

    def test_processes_and_directories_are_gone_at_the_end(self):
        with self.assertRaises(KeyboardInterrupt):
            with Processes(self.directory) as processes:
                child = processes.start(["sleep", "60"], os.path.join(processes.directory, "log"))
                raise KeyboardInterrupt
        self.assertIsNotNone(child.poll())
        self.assertFalse(os.path.exists(processes.directory))

    def test_a_call_is_answered_in_pieces(self):
        listener = socket.create_server(("127.0.0.1", 0))
        answer = b"\0" + struct.pack(">I", 5) + b"hello"

        def serve():
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(grpc.frame(grpc.SETTINGS, 0, 0, b"") + grpc.frame(grpc.PING, 0, 0, b"8" * 8))
                peer.recv(65536)
                peer.sendall(grpc.frame(grpc.HEADERS, grpc.END_HEADERS, 1, b"\x88")
                             + grpc.frame(grpc.DATA, 0, 1, answer[:7]))
                peer.sendall(grpc.frame(grpc.DATA, 0, 1, answer[7:])
                             + grpc.frame(grpc.HEADERS, grpc.END_HEADERS | grpc.END_STREAM, 1, b"\x88"))
                peer.recv(65536)

        server = threading.Thread(target=serve)
        server.start()
        connection = grpc.Connection("127.0.0.1", listener.getsockname()[1], "/a/b")
        connection.call(grpc.field(1, b"key"))
        received = None
        while received is None:
            received = connection.receive()
        self.assertEqual(received, b"hello")
        connection.socket.close()
        server.join()
        listener.close()

    def test_fields_are_protocol_buffers(self):
        self.assertEqual(grpc.field(1, b"ab"), b"\x0a\x02ab")
        self.assertEqual(grpc.varint(300), b"\xac\x02")


if __name__ == "__main__":
    unittest.main()
