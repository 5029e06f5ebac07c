import Nodes
import Testing

extension ProcessTests {
  @Suite struct CommandLineUse {
    struct Mistake: Sendable, CustomTestStringConvertible {
      let testDescription: String
      let text: String
      let answer: String
    }

    static let mistakes = [
      Mistake(
        testDescription: "syntax", text: "{\n  \"cluster\": \"x\",\n  \"nodes\": [ { \"name\": \"n1\"\n}",
        answer: "cluster.json:5:1: did not find expected ',' or ']'"),
      Mistake(
        testDescription: "unknown key",
        text: "{\n  \"cluster\": \"x\",\n  \"voter\": 3,\n  \"nodes\": [ { \"name\": \"n1\", \"address\": \"127.0.0.1\" } ]\n}",
        answer: "cluster.json:3:"),
      Mistake(
        testDescription: "duplicate node",
        text: """
          { "cluster": "x", "nodes": [
            { "name": "n1", "address": "127.0.0.1" },
            { "name": "n1", "address": "127.0.0.2" } ] }
          """, answer: "cluster.json:3: node name 'n1' is already used in line 2"),
      Mistake(
        testDescription: "bad address",
        text: "{ \"cluster\": \"x\", \"nodes\": [ { \"name\": \"n1\",\n  \"address\": \"127.0.0.256\" } ] }",
        answer: "cluster.json:2:14: address: '127.0.0.256' is not an IPv4 address"),
      Mistake(
        testDescription: "data directory without its placeholder",
        text: """
          { "cluster": "x", "dataDirectory": ".mesh",
            "nodes": [ { "name": "n1", "address": "127.0.0.1" } ] }
          """, answer: "cluster.json:1:36: dataDirectory: must contain {node}"),
      Mistake(testDescription: "no nodes", text: "{ \"cluster\": \"x\", \"nodes\": [] }", answer: "name at least one node"),
      Mistake(testDescription: "empty", text: "", answer: "cluster.json"),
    ]

    @Test(arguments: mistakes) func aMistakeInTheClusterFileIsNamedWithItsPlace(mistake: Mistake) throws {
      let cluster = try TestCluster(nodes: 1)
      try write(mistake.text, to: cluster.clusterFile)
      let result = try cluster.command(["start"])
      #expect(result.status == 1)
      #expect(result.errors.contains(mistake.answer), "\(result.errors)")
    }

    @Test func theUnknownKeyIsAnsweredWithWhatTheFileMayHold() throws {
      let cluster = try TestCluster(nodes: 1, settings: #""voter": 3,"#)
      let errors = try cluster.command(["start"]).errors
      #expect(errors.contains("unknown key 'voter'") && errors.contains("voters"))
    }

    @Test(arguments: [
      (["strat"], "there is no command 'strat'; did you mean 'start'?"),
      (["members", "--wach"], "'members' has no option --wach; did you mean --watch?"),
      (["members", "-o", "xml"], "-o is table, json or yaml, not 'xml'"),
      (["start", "--workers", "0"], "--workers is a number from 1 to 256, not '0'"),
      (["apply"], "name what to apply: -f FILE, -f FOLDER or -f -"),
      (["apply", "-f", "x.yaml", "--timeout", "soon"], "--timeout is a time such as 500ms, 30s or 2m, not 'soon'"),
      (["run", "--port", "80"], "say which service: --service NAME"),
      (["members", "--node", "n9"], "has no node 'n9'; did you mean n1? It has n1"),
    ]) func wrongUseExitsWith2AndAHint(words: [String], answer: String) throws {
      let cluster = try TestCluster(nodes: 1)
      let result = try cluster.command(words)
      #expect(result.status == 2)
      #expect(result.errors.contains(answer), "\(result.errors)")
      #expect(result.errors.contains("--help"))
    }

    @Test func aNodeThatDoesNotRunIsNamedWithTheRemedy() throws {
      let cluster = try TestCluster(nodes: 1)
      let result = try cluster.command(["members"])
      #expect(result.status == 1)
      #expect(result.errors.contains("mesh-node start --node n1"))
    }
  }
}
