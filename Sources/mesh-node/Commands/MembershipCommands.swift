import Cluster
import Glibc
import Nodes
import Primitives

/// Tokens, draining, forgetting, keys: what operators do to the cluster's nodes.
extension Command {
  static let token = Command(
    "token", .configure, operands: "create | list | revoke ID",
    summary: "make, list and revoke tokens that let nodes join which no cluster file names",
    discussion: """
      create   prints a token; give it to: mesh-node start --token TOKEN --node NAME --address ADDRESS
      list     shows the tokens that are known, how many nodes each may still let in, and whom it has let in
      revoke   lets nobody in with that token any more; nodes that are in stay
      The token is shown once. The cluster keeps only what is derived from it.
      """,
    options: [
      .value("ttl", "TIME", "how long the token lets nodes in (default: 1h, at most 720h)"),
      .value("uses", "N", "how many nodes it lets in (default: 1)"),
    ]
  ) { arguments in
    let client = try AdminClient(arguments)
    switch (arguments.operands.first, arguments.operands.count) {
    case ("create", 1):
      let request = TokenRequest(
        ttlSeconds: UInt64(max(0, try arguments.duration("ttl", default: .seconds(3600)).inSeconds)),
        uses: UInt32(try arguments.number("uses", default: 1, in: 1...1000)))
      let reply = try client.post("/v1/token/create", request, as: TokenReply.self, timeout: .seconds(30))
      try show(reply, as: arguments.format) { reply in
        [
          reply.token, "", "Token \(reply.id), good until \(reply.expires). On the new host:",
          "  mesh-node start --token TOKEN --node NAME --address ADDRESS",
        ]
      }
    case ("list", 1):
      try show(client.get("/v1/tokens", as: [TokenInfo].self), as: arguments.format, table: tokenLines)
    case ("revoke", 2):
      let answer = try client.post(
        "/v1/token/revoke", NameRequest(name: arguments.operands[1]), as: [String: String].self, timeout: .seconds(30))
      Terminal.line(answer["message"] ?? "revoked")
    default: throw UsageError("say what to do: token create, token list, or token revoke ID")
    }
    return .done
  }

  static let drain = Command(
    "drain", .configure, operands: "[NODE]",
    summary: "take a node out of service: no new requests, no role, no vote; it stays a member",
    discussion: """
      Returns when the node's roles and vote have moved. It stays so over restarts, until: mesh-node undrain NODE
      Without NODE, the node that answers is drained.
      """
  ) { arguments in
    try about(arguments, "/v1/drain")
  }

  static let undrain = Command(
    "undrain", .configure, operands: "[NODE]", summary: "put a drained node back into service"
  ) { arguments in
    try about(arguments, "/v1/undrain")
  }

  static let forget = Command(
    "forget", .configure, operands: "NODE",
    summary: "remove a dead node for good: its vote, its authority, its rows",
    discussion: """
      Afterwards a new node may take the name, with keys of its own: with the join secret when the cluster file names it, else
      with a token. Gossip gets a new key. A node that is alive is refused; end it with: mesh-node leave
      """
  ) { arguments in
    guard arguments.operands.count == 1 else { throw UsageError("say which node: forget NODE") }
    return try about(arguments, "/v1/forget")
  }

  static let rotateGossipKey = Command(
    "rotate-gossip-key", .configure, summary: "seal gossip with a new key; the one before it is still accepted"
  ) { arguments in
    let answer = try AdminClient(arguments).post(
      "/v1/gossip/rotate", [String](), as: [String: String].self, timeout: .seconds(30))
    Terminal.line(answer["message"] ?? "rotated")
    return .done
  }

  /// `roles transfer ROLE NODE`.
  static func transferRole(_ arguments: Arguments) throws -> ExitStatus {
    guard arguments.operands.count == 3, arguments.operands[0] == "transfer" else {
      throw UsageError("say which role goes where: roles transfer ROLE NODE")
    }
    let request = TransferRequest(role: arguments.operands[1], node: arguments.operands[2])
    let answer = try AdminClient(arguments).post(
      "/v1/roles/transfer", request, as: [String: String].self, timeout: .seconds(30))
    Terminal.line(answer["message"] ?? "moved")
    return .done
  }

  private static func about(_ arguments: Arguments, _ path: String) throws -> ExitStatus {
    guard arguments.operands.count <= 1 else { throw UsageError("name one node") }
    let client = try AdminClient(arguments)
    let name = arguments.operands.first ?? client.node
    let answer = try client.post(path, NameRequest(name: name), as: [String: String].self, timeout: .seconds(60))
    Terminal.line(answer["message"] ?? "done")
    return .done
  }
}

func tokenLines(_ tokens: [TokenInfo]) -> [String] {
  var table = Table("TOKEN", "STATE", "USES LEFT", "EXPIRES", "MADE AT", "LET IN", states: [1])
  for token in tokens {
    table.row(token.id, token.state, "\(token.usesLeft)", token.expires, token.author, token.joined.joined(separator: ","))
  }
  return table.isEmpty ? ["No tokens. Make one with: mesh-node token create"] : table.lines
}

/// What `start` needs beside the cluster file when a node joins with a token.
struct TokenStart {
  let token: JoinTokenText

  /// Reads `--token`, which is the token or `@FILE`, when there is one.
  init?(_ arguments: Arguments) throws {
    guard let text = arguments.value("token") else {
      if arguments.value("join") != nil { throw UsageError("--join needs a token: --token TOKEN") }
      return nil
    }
    do {
      let whole =
        text.hasPrefix("@") ? String(decoding: try readFile(String(text.dropFirst()), bytesMax: 8_192), as: UTF8.self) : text
      token = try JoinTokenText(parsing: whole)
    } catch { throw CommandFailure("\(error)") }
  }

  /// Writes the cluster file of the new node, unless there is one.
  func writeClusterFile(_ arguments: Arguments) throws {
    let path = arguments.value("config") ?? getenv("MESH_CONFIG").map { String(cString: $0) } ?? "cluster.json"
    guard !fileExists(path) else { return }
    guard let text = arguments.value("node"), let name = try? NodeName(text), let address = arguments.value("address") else {
      throw UsageError("a node that joins says who and where it is: --node NAME --address ADDRESS")
    }
    var token = token
    if let first = arguments.value("join") {
      guard token.prefer(contactAt: first) else {
        throw UsageError("the token does not know \(first); it names \(token.contactList)")
      }
    }
    let file = ClusterFile.text(
      joining: token, as: name, address: address, locality: arguments.value("locality") ?? "",
      isGateway: arguments.flag("gateway"))
    do {
      // A mistake in the arguments is told before anything is written.
      _ = try ClusterFile(parsing: Array(file.utf8), path: path)
      try replaceFile(path, with: Array(file.utf8), mode: 0o644)
    } catch { throw CommandFailure("\(error)") }
    Terminal.line("wrote \(path); later starts need no token: mesh-node start --node \(name)")
  }
}
