import Testing

/// Rules of this code base that the compiler does not check. An exception names its file and its reason.
@Suite struct TidyTests {
  struct Ban: Sendable, CustomTestStringConvertible {
    let token: String
    let instead: String
    /// Targets it holds for; nil means all.
    var targets: Set<String>?
    /// File, or folder with a slash at its end → why it may.
    var exceptions: [String: String] = [:]
    /// Comments are judged too.
    var holdsInComments = false
    var testDescription: String { token }
  }

  static let pureTargets: Set<String> = [
    "Primitives", "Telemetry", "HTTPCodec", "Membership", "Consensus", "MeshConfig", "Traffic", "Simulation",
  ]

  static let bans: [Ban] = [
    Ban(
      token: "Task.detached", instead: "a Task that its owner keeps and cancels",
      exceptions: [
        "Sources/Transport/Actors/DeadlineQueue.swift":
          "the sleeper outlives the call that made it; its owner keeps and cancels it",
        "Sources/Transport/Actors/Mailbox.swift": "a call from the wire has no task of ours to inherit from",
      ]),
    Ban(token: "try!", instead: "try, or a value that cannot fail"),
    Ban(token: "as!", instead: "as? with an error"),
    Ban(
      token: "fatalError(", instead: "an error, or preconditionFailure with the broken rule in words",
      exceptions: [
        "Tests/Fuzz/": "a broken promise has to end the fuzzer, with its words in a release build as well",
        "Tests/ProxyTests/TestMesh.swift": "a fixture whose constants are wrong cannot go on",
        "Tests/TransportTests/LinkNetworkTests.swift": "a fixture whose constants are wrong cannot go on",
      ]),
    Ban(
      token: " print(", instead: "Terminal in the command line, NodeLog in a node",
      exceptions: [
        "Sources/BookinfoDemo/BookinfoDemo.swift": "the demo application's own --help",
        "Tests/BenchActors/": "a program of its own, which prints what it measured",
        "Tests/BenchCompile/": "a program of its own, which prints what it measured",
        "Tests/ConformanceTests/": "numbers seen, for the reader of the run",
        "Tests/MeshConfigTests/ConformanceTests.swift": "counts of a corpus, for the reader of the run",
        "Tests/MeshConfigTests/GatewayStatusConformanceTests.swift": "counts of a corpus, for the reader of the run",
        "Tests/MeshConfigTests/ScaleTests.swift": "a measured time, for the reader of the run",
        "Tests/Simulate/": "a program of its own, which prints what it found",
      ]),
    Ban(token: "TODO", instead: "the work itself", holdsInComments: true),
    Ban(token: "FIXME", instead: "the work itself", holdsInComments: true),
    Ban(token: "Thread.sleep", instead: "a condition that is awaited"),
    Ban(
      token: "usleep(", instead: "a condition that is awaited",
      exceptions: [
        "Tests/ConformanceTests/": "the pause between two polls of a condition, on a blocking thread",
        "Tests/ProxyTests/ProtocolDetectionTests.swift": "a client's silence, longer at each try, is what is tested",
      ]),
    Ban(token: "SystemRandomNumberGenerator", instead: "a SeededGenerator that is passed in", targets: pureTargets),
    Ban(token: ".random(", instead: "a SeededGenerator that is passed in", targets: pureTargets),
    Ban(token: ".shuffle()", instead: "SeededGenerator.shuffle", targets: pureTargets),
    Ban(token: ".shuffled()", instead: "SeededGenerator.shuffle", targets: pureTargets),
    Ban(token: ".randomElement()", instead: "SeededGenerator.index(below:)", targets: pureTargets),
    Ban(token: "Date()", instead: "an Instant or a wall time that is passed in", targets: pureTargets),
    Ban(token: "ContinuousClock", instead: "an Instant that is passed in", targets: pureTargets),
    Ban(token: "Task {", instead: "an effect that the driver carries out", targets: pureTargets),
    Ban(token: "await ", instead: "an effect that the driver carries out", targets: pureTargets),
    Ban(
      token: "await ", instead: "a value of the snapshot: a request never waits for an actor", targets: ["Proxy"],
      exceptions: [
        "Sources/Proxy/ProxyRuntime.swift": "the bridge: control calls it, the workers never do"
      ]),
  ]

  @Test(arguments: bans) func noFileUses(ban: Ban) {
    let judged = SourceTree.files.filter { file in
      !file.path.hasPrefix("Tests/TidyTests/") && ban.targets?.contains(file.target) != false
        && !ban.exceptions.keys.contains(where: file.path.hasPrefix)
    }
    for file in judged {
      let lines = ban.holdsInComments ? file.lines.enumerated().map { ($0 + 1, String($1)) } : file.code
      for (number, text) in lines where text.contains(ban.token) {
        Issue.record("\(file.path):\(number): '\(ban.token)' is not used here; use \(ban.instead)")
      }
    }
    for path in ban.exceptions.keys.sorted() {
      let isNeeded = SourceTree.files.contains { $0.path.hasPrefix(path) && $0.code.contains { $0.text.contains(ban.token) } }
      #expect(isNeeded, "\(path) no longer uses '\(ban.token)': remove its exception")
    }
  }

  // MARK: Imports

  /// Modules of this package, lowest first; each imports only what stands before it and is named for it.
  static let fences: [(target: String, mayImport: Set<String>)] = [
    ("Primitives", ["Synchronization"]),
    ("Telemetry", ["Primitives"]),
    ("HTTPCodec", ["Primitives"]),
    ("HTTP2", ["Primitives", "HTTPCodec", "CNGHTTP2", "Glibc"]),
    ("Membership", ["Primitives"]),
    ("Consensus", ["Primitives"]),
    ("MeshConfig", ["Primitives", "Telemetry", "CYAML", "CRE2", "Synchronization"]),
    ("Traffic", ["Primitives", "Telemetry", "HTTPCodec", "MeshConfig", "Synchronization"]),
    ("Transport", ["Primitives", "CLinux", "COpenSSL", "Glibc", "Synchronization", "Distributed", "Dispatch"]),
    ("Cluster", ["Primitives", "Membership", "Consensus", "Transport", "CSQLite", "Glibc", "Synchronization", "Dispatch"]),
    (
      "Proxy",
      [
        "Primitives", "Telemetry", "HTTPCodec", "HTTP2", "MeshConfig", "Traffic", "Transport", "CLinux", "CAres",
        "Glibc", "Synchronization",
      ]
    ),
    (
      "MeshActors",
      [
        "Primitives", "HTTPCodec", "Membership", "Consensus", "MeshConfig", "Traffic", "Transport", "Cluster", "Proxy",
        "CLinux", "Distributed", "Glibc", "Synchronization",
      ]
    ),
    (
      "Nodes",
      [
        "Primitives", "Telemetry", "HTTPCodec", "Membership", "Consensus", "MeshConfig", "Traffic", "Transport", "Cluster",
        "Proxy", "MeshActors", "CLinux", "COpenSSL", "CSQLite", "Glibc", "Synchronization", "FoundationEssentials",
      ]
    ),
    (
      "mesh-node",
      [
        "Primitives", "MeshConfig", "Transport", "Cluster", "Nodes", "CLinux", "Glibc", "Synchronization",
        "FoundationEssentials",
      ]
    ),
    (
      "BookinfoDemo",
      ["Primitives", "HTTPCodec", "CLinux", "COpenSSL", "Dispatch", "Glibc", "Synchronization", "FoundationEssentials"]
    ),
    ("Simulation", ["Primitives", "Membership", "Consensus"]),
    ("Simulate", ["Primitives", "Simulation", "Glibc"]),
    ("Fuzz", ["Primitives", "HTTPCodec", "HTTP2", "Transport", "FuzzTargets", "Glibc"]),
    ("Load", ["Primitives", "HTTPCodec", "HTTP2", "Transport", "CLinux", "Glibc"]),
    ("BenchActors", ["Primitives", "Transport", "Distributed", "Glibc", "Synchronization"]),
    ("BenchCompile", ["Primitives", "MeshConfig", "Proxy", "Glibc"]),
    ("Rolling", ["Glibc", "Synchronization", "FoundationEssentials"]),
  ]

  @Test(arguments: fences.map(\.target)) func importsOnlyWhatStandsBelow(target: String) throws {
    let allowed = try #require(Self.fences.first { $0.target == target }).mayImport
    let files = SourceTree.files.filter { $0.target == target }
    #expect(!files.isEmpty, "no file of \(target) was found")
    for file in files {
      for line in file.imports where !allowed.contains(line.module) {
        Issue.record("\(file.path):\(line.number): \(target) does not import \(line.module); see ARCHITECTURE.md, Targets")
      }
    }
  }

  @Test func everyTargetHasAFence() {
    let fenced = Set(Self.fences.map(\.target))
    let unfenced = Set(SourceTree.files.map(\.target)).filter { !$0.hasSuffix("Tests") && !fenced.contains($0) }
    #expect(unfenced.isEmpty, "add a line to the fences for \(unfenced.sorted())")
  }

  @Test func noFileImportsWholeFoundation() {
    for file in SourceTree.files {
      for line in file.imports where line.module == "Foundation" {
        Issue.record("\(file.path):\(line.number): import FoundationEssentials, which needs no ICU and links statically")
      }
    }
  }

  // MARK: Size

  static let linesMax = 450
  /// File → why it may be longer.
  static let longFiles: [String: String] = [
    "Sources/Proxy/HTTP1/HTTP1Downstream.swift": "one connection's states, kept in one place",
    "Sources/Proxy/HTTP1/HTTP1Upstream.swift": "one connection's states, kept in one place",
    "Tests/Simulation/RaftCluster.swift": "one simulated cluster with its faults, kept in one place",
  ]

  @Test func filesAreShortEnoughToRead() {
    for file in SourceTree.files where file.lines.count - 1 > Self.linesMax && Self.longFiles[file.path] == nil {
      Issue.record("\(file.path) has \(file.lines.count - 1) lines; split it by noun at \(Self.linesMax)")
    }
    for path in Self.longFiles.keys.sorted() {
      let isLong = SourceTree.files.contains { $0.path == path && $0.lines.count - 1 > Self.linesMax }
      #expect(isLong, "\(path) has at most \(Self.linesMax) lines: remove its exception")
    }
  }

  // MARK: The reader itself

  @Test(arguments: [
    ("let a = 1 // try! this", "let a = 1 "), (#"say("try! // this") + x"#, "say(\") + x"),
    (#"a("\"try!") as! B"#, "a(\") as! B"),
    ("/// print(", ""),
  ])
  func textsAndCommentsAreNotJudged(line: String, code: String) {
    #expect(SourceFile.withoutTextAndComment(line[...]) == code)
  }
}
