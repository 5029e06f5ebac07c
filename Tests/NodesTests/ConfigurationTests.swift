import Glibc
import Nodes
import Testing

extension ProcessTests {
  @Suite struct Configuration {
    /// Everything about `apply`, `get` and `delete` that needs no second node, on one.
    @Test func changesAreAppliedAsAWholeOrNotAtAll() throws {
      let cluster = try TestCluster(nodes: 1)
      try cluster.initialize()
      try cluster.startAll()
      try refusals(cluster)
      try folders(cluster)
      try dryRun(cluster)
      try notEnforced(cluster)
      try warnings(cluster)
      try circle(cluster)
      try habits(cluster)
      try namespaces(cluster)
      try allocatedAddresses(cluster)
    }

    /// What kubectl says of a namespace that is asked for, and another that is written.
    private func namespaces(_ cluster: TestCluster) throws {
      let bare = TestConfiguration.rule("roaming")
      let elsewhere = bare.replacing("name: roaming", with: "name: roaming, namespace: x")
      for verb in ["apply", "delete"] {
        let refused = try cluster.command([verb, "-n", "other", "-f", "-"], input: elsewhere)
        #expect(
          refused.status == 1 && refused.errors.contains("You must pass '--namespace=x' to perform this operation."),
          "\(refused)")
        #expect(refused.errors.contains(#"from the provided object "x" does not match the namespace "other""#), "\(refused)")
      }
      #expect(try cluster.command(["apply", "-f", "-"], input: elsewhere).status == 0)
      #expect(try cluster.command(["apply", "-n", "other", "-f", "-"], input: bare).status == 0)
      let found = try cluster.command(["get", "dr", "-n", "other", "-o", "name"]).output
      #expect(found == "destinationrule/roaming\n")
      #expect(try cluster.command(["delete", "-n", "other", "-f", "-"], input: bare).status == 0)
      #expect(try cluster.command(["delete", "-n", "x", "-f", "-"], input: elsewhere).status == 0)
    }

    /// The discovery role gives the host of an entry without addresses one, which the entry's status tells.
    private func allocatedAddresses(_ cluster: TestCluster) throws {
      let entry = """
        apiVersion: networking.istio.io/v1
        kind: ServiceEntry
        metadata: {name: outside}
        spec:
          hosts: [outside.example.com]
          ports: [{number: 80, name: http, protocol: HTTP}]
          resolution: DNS
        """
      let log = cluster.logPath("watch")
      let watcher = try RunningProcess(
        [Programs.meshNode, "get", "se", "--watch", "-o", "wide", "--config", cluster.clusterFile], log: log)
      defer { watcher.signal(SIGKILL) }
      #expect(try cluster.command(["apply", "-f", "-"], input: entry).status == 0)
      try eventually("the host has an address", within: .seconds(20)) {
        try cluster.command(["get", "serviceentry", "outside", "-o", "yaml"]).output.contains(#"value: "240.240."#)
      }
      let json = try cluster.command(["get", "se", "outside", "-o", "json"]).output
      #expect(json.contains(#""status":{"addresses":[{"host":"outside.example.com","value":"240.240."#), "\(json)")
      #expect(try cluster.command(["get", "se", "-o", "wide"]).output.contains("240.240."))
      // An address that comes later is a change of the object to who watches, though not of its version.
      try eventually("the watcher to be told of the address") { text(of: log).contains("240.240.") }
      let again = try cluster.command(["apply", "-f", "-"], input: try cluster.command(["export"]).output)
      #expect(again.status == 0 && again.output.contains("serviceentry/outside unchanged"), "\(again)")
      #expect(try cluster.command(["delete", "se", "outside"]).status == 0)
    }

    private func path(_ name: String, _ text: String, _ cluster: TestCluster) throws -> String {
      let path = "\(cluster.directory)/\(name)"
      try write(text, to: path)
      return path
    }

    private func refusals(_ cluster: TestCluster) throws {
      let good = TestConfiguration.rule("good")
      let unknownField = good.replacing("trafficPolicy:", with: "traficPolicy:")
      let wrongValue = """
        apiVersion: networking.istio.io/v1
        kind: VirtualService
        metadata: { name: wrong }
        spec:
          hosts: [details]
          http:
            - fault: { abort: { httpStatus: 999, percentage: { value: 100 } } }
              route: [{ destination: { host: details } }]

        """
      let cases: [(text: String, answers: [String])] = [
        ("apiVersion: networking.istio.io/v1\nkind: [\n", [":3:"]),
        (unknownField, [":6:3", "traficPolicy", "trafficPolicy"]),
        (wrongValue, [":7:", "httpStatus", "spec.http[0].fault.abort"]),
        (good + "---\n" + unknownField.replacing("name: good", with: "name: bad"), ["traficPolicy"]),
        (good.replacing("kind: DestinationRule", with: "kind: DestinationRul"), ["DestinationRul"]),
      ]
      let before = try cluster.status("n1").revision
      for (index, entry) in cases.enumerated() {
        let file = try path("bad-\(index).yaml", entry.text, cluster)
        let result = try cluster.command(["apply", "-f", file])
        #expect(result.status == 1, "\(entry.text)")
        for answer in [file] + entry.answers { #expect(result.errors.contains(answer), "\(answer) in \(result.errors)") }
        #expect(result.errors.contains("nothing was changed"))
      }
      #expect(try cluster.status("n1").revision == before)
      #expect(try !cluster.command(["get", "destinationrules"]).output.contains("good"))
    }

    private func folders(_ cluster: TestCluster) throws {
      let folder = "\(cluster.directory)/folder"
      mkdir(folder, 0o700)
      for name in ["a", "b"] { _ = try path("folder/\(name).yaml", TestConfiguration.rule("from-\(name)"), cluster) }
      try write("not YAML: [", to: "\(folder)/notes.txt")
      let applied = try cluster.command(["apply", "-f", folder, "--wait"])
      #expect(applied.status == 0)
      #expect(applied.output.contains("destinationrule/from-a created") && applied.output.contains("served by n1"))
      let piped = try cluster.command(["apply", "-f", "-"], input: TestConfiguration.rule("from-input"))
      #expect(piped.status == 0 && piped.output.contains("destinationrule/from-input created"), "\(piped)")
      let again = try cluster.command(["apply", "-f", folder])
      #expect(again.status == 0 && again.output.contains("unchanged"), "\(again)")
    }

    private func dryRun(_ cluster: TestCluster) throws {
      let before = try cluster.status("n1").revision
      let file = try path("change.yaml", TestConfiguration.rule("from-a", connections: 7), cluster)
      let result = try cluster.command(["apply", "-f", file, "--dry-run"])
      #expect(result.status == 0)
      #expect(result.output.contains("destinationrule/from-a configured (dry run)"))
      #expect(result.output.contains(where: { $0 == "-" }) && result.output.contains("maxConnections: 7"), "\(result.output)")
      #expect(result.output.contains("maxConnections: 100"))
      #expect(try cluster.status("n1").revision == before)
    }

    /// Who is told nothing would believe that a policy is in force.
    private func notEnforced(_ cluster: TestCluster) throws {
      let extensionOfMesh = """
        apiVersion: extensions.istio.io/v1alpha1
        kind: WasmPlugin
        metadata: {name: idle}
        spec: {url: "file:///opt/filter.wasm"}
        ---
        apiVersion: apps/v1
        kind: Deployment
        metadata: {name: web}
        """
      let applied = try cluster.command(["apply", "-f", "-", "--wait"], input: extensionOfMesh)
      #expect(applied.output.contains("accepted, not enforced"), "\(applied)")
      let skipped = applied.output.split(separator: "\n").filter { $0.contains("web") }
      #expect(skipped == ["deployment/web skipped: it does not configure the mesh (standard input:6)"], "\(applied)")
      let status = try cluster.command(["status"]).output
      #expect(status.contains("Accepted, not enforced:") && status.contains("idle: "), "\(status)")
      #expect(try cluster.status("n1").notEnforced.count == 1)
      #expect(try cluster.command(["delete", "wasmplugin", "idle", "--wait"]).status == 0)
      #expect(try cluster.status("n1").notEnforced.isEmpty)
    }

    private func warnings(_ cluster: TestCluster) throws {
      let rule = """
        apiVersion: networking.istio.io/v1
        kind: VirtualService
        metadata: { name: to-nowhere }
        spec:
          hosts: [details]
          http:
            - route: [{ destination: { host: detials, subset: v1 } }]

        """
      let file = try path("warned.yaml", rule, cluster)
      let place = "\(file):7:32: warning [IST0101]: VirtualService default/to-nowhere spec.http[0].route[0].destination.host: "
      let refused = try cluster.command(["apply", "-f", file, "--strict"])
      #expect(refused.status == 1 && refused.errors.contains("refused: 1 warning; nothing was changed"), "\(refused)")
      #expect(refused.errors.contains(place + "no service is known as detials.default.svc.cluster.local"), "\(refused)")
      let accepted = try cluster.command(["apply", "-f", file])
      #expect(accepted.status == 0 && (accepted.output + accepted.errors).contains(place), "\(accepted)")
      #expect(try cluster.command(["delete", "vs", "to-nowhere"]).status == 0)
    }

    /// What people who come from kubectl type.
    private func habits(_ cluster: TestCluster) throws {
      func run(_ words: String..., input: String = "") throws -> (status: Int32, output: String, errors: String) {
        let result = try cluster.command(words, input: input)
        return (Int32(result.status), result.output, result.errors)
      }
      let rules = ["k1", "k2", "k3"].map { TestConfiguration.rule($0) }.joined(separator: "---\n")
      #expect(try run("apply", "-f", "-", input: rules).status == 0)
      let two = try run("get", "dr", "k1", "k3", "-o", "name")
      #expect(two.status == 0 && two.output == "destinationrule/k1\ndestinationrule/k3\n", "\(two)")
      let half = try run("get", "dr/k1", "dr/k9", "-o", "name")
      #expect(half.status == 1 && half.output == "destinationrule/k1\n" && half.errors.contains("no dr 'k9'"), "\(half)")
      #expect(try run("get", "dr", "--show-labels").output.contains("LABELS"))
      #expect(try !run("get", "vs", "-A").output.contains("Look everywhere"))
      let dry = try run("delete", "dr", "k1", "k2", "--dry-run=server")
      #expect(dry.status == 0 && dry.output.contains("destinationrule/k1 deleted (dry run)"), "\(dry)")
      #expect(try run("get", "dr", "k1").status == 0)
      let some = try run("delete", "dr", "k1", "k9", "--ignore-not-found")
      #expect(some.status == 0 && some.output.contains("destinationrule/k1 deleted"), "\(some)")
      #expect(try run("delete", "dr", "k9", "--ignore-not-found").status == 0)
      #expect(try run("delete", "dr", "k9").status == 1)
      let all = try run("delete", "dr", "--all")
      #expect(all.status == 0 && all.output.contains("k2 deleted") && all.output.contains("k3 deleted"), "\(all)")
      #expect(try run("delete", "dr", "--all").errors.contains("there is no dr"))
      let mistakes =
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: x}\nspec:\n  hst: a\n  subsets: 5\n"
      let refused = try run("apply", "-f", "-", input: mistakes).errors.split(separator: "\n").filter {
        $0.contains("[IST0106]")
      }
      let lines = refused.compactMap { $0.split(separator: ":").dropFirst().first.flatMap { Int($0) } }
      #expect(lines.count >= 2 && lines == lines.sorted(), "\(refused)")
      let analyzed = try run("analyze", "-f", "-", input: mistakes)
      #expect(analyzed.status == 79 && analyzed.output.contains("Error [IST0106] (DestinationRule default/x standard input:"))
      #expect(try run("analyze").status != 2, "without files the live configuration is looked at")
      let clean = try run("analyze", "-f", "-", "--output-threshold", "error", input: TestConfiguration.rule("k"))
      #expect(clean.status == 0 && clean.output.hasPrefix("✔ No validation issues found when analyzing"), "\(clean)")
    }

    private func circle(_ cluster: TestCluster) throws {
      let shown = try cluster.command(["get", "destinationrule", "from-a", "-o", "yaml"])
      let exported = try cluster.command(["export"])
      #expect(shown.status == 0 && exported.status == 0)
      #expect(try cluster.command(["delete", "destinationrule", "from-a", "--wait"]).status == 0)
      #expect(try cluster.command(["get", "dr", "from-a"]).status == 1)
      let missing = try cluster.command(["delete", "destinationrule/from-a"])
      #expect(missing.status == 1 && missing.errors.contains("from-a"), "\(missing)")
      // With its resourceVersion it is an object that is gone; what `export` prints can be made anew.
      let stale = try cluster.command(["apply", "-f", "-"], input: shown.output)
      #expect(stale.status == 1 && stale.errors.contains("does not exist any more"), "\(stale)")
      let back = try cluster.command(["apply", "-f", "-"], input: exported.output)
      #expect(back.status == 0 && back.output.contains("destinationrule/from-a created"), "\(back)")
      #expect(try cluster.command(["export"]).output == exported.output)
      #expect(try cluster.command(["delete", "-f", "\(cluster.directory)/folder"]).status == 0)
      #expect(try !cluster.command(["get"]).output.contains("from-a"))
      // All that there is, as one change over itself.
      let all = try cluster.command(["get", "-o", "yaml"])
      let same = try cluster.command(["apply", "-f", "-"], input: all.output)
      #expect(same.status == 0 && !same.output.contains("created"), "\(same)")
    }
  }
}
