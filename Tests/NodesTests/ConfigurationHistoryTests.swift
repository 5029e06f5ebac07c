import Glibc
import Nodes
import Testing

extension ProcessTests {
  /// `history`, `rollback`, `get`, `delete`, `export` and `apply` as users of kubectl expect them.
  @Suite struct ConfigurationHistory {
    private static func rule(
      _ name: String, connections: Int, namespace: String = "default", labels: String = "team: web", version: String? = nil
    ) -> String {
      """
      apiVersion: networking.istio.io/v1
      kind: DestinationRule
      metadata:
        name: \(name)
        namespace: \(namespace)
        labels: { \(labels) }\(version.map { "\n  resourceVersion: \"\($0)\"" } ?? "")
      spec:
        host: \(name).\(namespace).svc.cluster.local
        trafficPolicy: { connectionPool: { tcp: { maxConnections: \(connections) } } }
      ---

      """
    }

    private func apply(_ text: String, _ cluster: TestCluster) throws -> UInt64 {
      let result = try cluster.command(["apply", "-f", "-"], input: text)
      guard result.status == 0 else { throw Unexpected(result.errors) }
      return try cluster.status("n1").revision
    }

    private func output(_ words: [String], _ cluster: TestCluster) throws -> String {
      let result = try cluster.command(words)
      guard result.status == 0 else { throw Unexpected("\(words): \(result.errors)") }
      return result.output
    }

    private func single() throws -> TestCluster {
      let cluster = try TestCluster(nodes: 1)
      try cluster.initialize()
      try cluster.startAll()
      return cluster
    }

    // MARK: History

    @Test func rollbackMakesTheConfigurationWhatItWas() throws {
      let cluster = try single()
      let first = try apply(Self.rule("a", connections: 1), cluster)
      let before = try output(["export"], cluster)
      let second = try apply(Self.rule("a", connections: 2) + Self.rule("b", connections: 1), cluster)
      #expect(second > first)
      #expect(try output(["delete", "dr", "a"], cluster).contains("deleted"))
      let history = try output(["history"], cluster).split(separator: "\n").map(String.init)
      #expect(history[0].hasPrefix("REVISION"))
      #expect(history[1].contains("deleted destinationrule/a"), "\(history)")
      #expect(history[2].contains("configured destinationrule/a, created destinationrule/b"), "\(history)")
      #expect(history[2].hasPrefix("\(second)"))
      let last = try cluster.status("n1").revision
      let dry = try output(["rollback", "\(first)", "--dry-run"], cluster)
      #expect(dry.contains("destinationrule/a created (dry run)") && dry.contains("destinationrule/b deleted (dry run)"))
      #expect(try cluster.status("n1").revision == last)
      #expect(try output(["rollback", "\(first)", "--wait"], cluster).contains("served by n1"))
      #expect(try output(["export"], cluster) == before)
      // A rollback is a change like any other: it can be undone.
      _ = try output(["rollback", "\(second)"], cluster)
      #expect(try output(["get", "dr", "a", "-o", "yaml"], cluster).contains("maxConnections: 2"))
      let unknown = try cluster.command(["rollback", "999999"])
      #expect(unknown.status == 1 && unknown.errors.contains("revision 999999 is not in the history"), "\(unknown)")
      #expect(try cluster.command(["rollback"]).status == 2)
    }

    @Test func whatWasChangedMeanwhileIsNotOverwritten() throws {
      let cluster = try single()
      _ = try apply(Self.rule("a", connections: 1), cluster)
      let seen = try output(["get", "dr", "a", "-o", "yaml"], cluster)
      let version = try #require(
        seen.split(separator: "\n").first { $0.contains("resourceVersion") }?.split(separator: "\"").last.map(String.init))
      _ = try apply(Self.rule("a", connections: 2, version: version), cluster)
      let stale = try cluster.command(["apply", "-f", "-"], input: Self.rule("a", connections: 3, version: version))
      #expect(stale.status == 1 && stale.errors.contains("the object has changed since"), "\(stale)")
      #expect(stale.errors.contains("not \(version)"))
      #expect(try output(["get", "dr", "a", "-o", "yaml"], cluster).contains("maxConnections: 2"))
      // As JSON the version comes along, too.
      let json = try output(["get", "dr", "a", "-o", "json"], cluster)
      let same = try cluster.command(["apply", "-f", "-"], input: json)
      #expect(same.status == 0 && same.output.contains("destinationrule/a unchanged"), "\(same)")
    }

    @Test func whatIsExportedAppliesAgainWithoutAChange() throws {
      let cluster = try single()
      let revision = try apply(Self.rule("a", connections: 1) + Self.rule("b", connections: 1, namespace: "shop"), cluster)
      let exported = try output(["export"], cluster)
      let again = try cluster.command(["apply", "-f", "-"], input: exported)
      #expect(again.status == 0 && again.output.contains("destinationrule/b in shop unchanged"), "\(again)")
      #expect(!again.output.contains("configured") && !again.output.contains("created"), "\(again)")
      #expect(try cluster.status("n1").revision == revision)
      #expect(try !output(["export", "-n", "shop"], cluster).contains("name: a\n"))
    }

    // MARK: Selecting and showing

    @Test func objectsAreSelectedAsKubectlSelectsThem() throws {
      let cluster = try single()
      _ = try apply(
        Self.rule("a", connections: 1) + Self.rule("b", connections: 1, labels: "team: shop, tier: back")
          + Self.rule("c", connections: 1, namespace: "other"), cluster)
      func names(_ words: String...) throws -> [String] {
        try output(["get", "dr", "-o", "name"] + words, cluster).split(separator: "\n").map {
          String($0.dropFirst("destinationrule/".count))
        }
      }
      #expect(try names() == ["a", "b"])
      #expect(try names("-A") == ["a", "b", "c"])
      #expect(try names("-n", "other") == ["c"])
      for (selector, expected) in [
        ("team=web", ["a"]), ("team!=web", ["b"]), ("tier", ["b"]), ("!tier", ["a"]), ("team in (web,shop),tier=back", ["b"]),
        ("team notin (web)", ["b"]),
      ] {
        #expect(try names("-l", selector) == expected, "\(selector)")
      }
      let wide = try output(["get", "dr", "b", "-o", "wide"], cluster)
      for word in ["VERSION", "LABELS", "team=shop,tier=back", "networking.istio.io/v1"] {
        #expect(wide.contains(word), "\(wide)")
      }
      let list = try output(["get", "dr", "-o", "json"], cluster)
      #expect(list.contains(#""kind":"List""#) && list.contains(#""resourceVersion":""#))
      #expect(try cluster.command(["apply", "-f", "-"], input: list).output.contains("destinationrule/b unchanged"))
      #expect(try output(["get", "dr/a", "-o", "name"], cluster) == "destinationrule/a\n")
      #expect(try output(["get", "service,dr", "-o", "name"], cluster).contains("service/details"))
      let missing = try cluster.command(["get", "dr", "nothing"])
      #expect(missing.status == 1 && missing.errors.contains("there is no dr 'nothing' in namespace default"), "\(missing)")
      #expect(try output(["get", "dr", "-n", "empty"], cluster).contains("No objects found in namespace empty"))
      #expect(try output(["delete", "dr", "-l", "team=web"], cluster).contains("destinationrule/a deleted"))
      #expect(try names("-A") == ["b", "c"])
      #expect(try cluster.command(["delete", "dr", "-l", "team=web"]).status == 1)
    }

    // MARK: Watching

    /// The watcher asks once; what comes afterwards is sent to it.
    @Test func changesArePushedToWhoWatches() throws {
      let cluster = try single()
      _ = try apply(Self.rule("a", connections: 1), cluster)
      func watcher(_ words: [String], _ name: String) throws -> (process: RunningProcess, lines: () -> [String]) {
        let log = cluster.logPath(name)
        let process = try RunningProcess(
          [Programs.meshNode, "get", "dr", "--watch", "--config", cluster.clusterFile] + words, log: log)
        return (process, { text(of: log).split(separator: "\n").map(String.init) })
      }
      let all = try watcher(["-A", "-o", "name"], "all")
      let web = try watcher(["-l", "team=web", "-o", "json"], "web")
      defer { for process in [all.process, web.process] { process.signal(SIGKILL) } }
      try eventually("both to have shown what there is") {
        all.lines() == ["ADDED destinationrule/a"] && web.lines().count == 1
      }
      _ = try apply(Self.rule("b", connections: 1, namespace: "other"), cluster)
      _ = try apply(Self.rule("a", connections: 2, labels: "team: shop"), cluster)
      _ = try output(["delete", "dr", "b", "-n", "other"], cluster)
      try eventually("every change to be shown") {
        all.lines() == [
          "ADDED destinationrule/a", "ADDED destinationrule/b", "MODIFIED destinationrule/a", "DELETED destinationrule/b",
        ]
      }
      try eventually("what is no longer selected to be gone") {
        let lines = web.lines()
        return lines.count == 2 && lines[0].hasPrefix(#"{"type":"ADDED""#) && lines[1].hasPrefix(#"{"type":"DELETED""#)
      }
      try cluster.end("n1", with: SIGTERM)
      #expect(try all.process.ended() == 1)
      #expect(all.lines().last?.contains("ended the watch") == true)
    }
  }
}
