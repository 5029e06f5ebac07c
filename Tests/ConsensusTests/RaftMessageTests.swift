import Consensus
import Primitives
import Testing

struct RaftMessageTests {
  static let members = ClusterConfiguration(voters: ["n1", "n2", "n3"].map(name), learners: [name("n4")])
  static let bodies: [RaftMessage.Body] = [
    .preVote(last: position(7, 3)), .preVoteReply(granted: true), .vote(last: position(300, 70_000), forced: true),
    .voteReply(granted: false), .append(previous: .zero, entries: [], commit: LogIndex(4)),
    .append(
      previous: position(6, 2),
      entries: [
        entry(7, 2), entry(8, 3, "command"), LogEntry(index: LogIndex(9), term: Term(3), payload: .configuration(members)),
      ], commit: LogIndex(6)),
    .appendReply(.matched(LogIndex(9))), .appendReply(.conflict(at: LogIndex(9), hint: position(4, 2))),
    .heartbeat(commit: LogIndex(8), round: .max), .heartbeatReply(round: 12),
    .snapshotChunk(
      SnapshotChunk(
        position: position(40, 5), configuration: members, digest: SHA256.digest(of: [1]), total: 10, offset: 4,
        bytes: [1, 2, 3])),
    .snapshotReply(at: position(40, 5), offset: 7), .timeoutNow,
  ]
  private static func message(_ body: RaftMessage.Body) -> RaftMessage {
    RaftMessage(cluster: ClusterTag(clusterName: "c"), term: Term(9), body: body)
  }

  @Test func `every message survives the wire`() throws {
    for body in Self.bodies {
      let message = Self.message(body)
      #expect(try RaftMessage(decoding: message.encoded()) == message)
    }
  }

  @Test func `a cut or lengthened message is refused`() {
    for body in Self.bodies {
      let bytes = Self.message(body).encoded()
      for length in 0..<bytes.count { #expect(throws: ByteError.self) { try RaftMessage(decoding: bytes[..<length]) } }
      #expect(throws: ByteError.self) { try RaftMessage(decoding: bytes + [0]) }
    }
  }

  @Test func `random and damaged bytes never trap, and what decodes encodes to the same bytes`() {
    var generator = SeededGenerator(seed: 11)
    var decoded = 0
    for round in 0..<6000 {
      var bytes = Self.message(Self.bodies[round % Self.bodies.count]).encoded()
      if round % 3 == 0 {
        bytes = (0..<generator.index(below: 80)).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
      } else {
        for _ in 0...generator.index(below: 3) where !bytes.isEmpty {
          bytes[generator.index(below: bytes.count)] = UInt8(truncatingIfNeeded: generator.next())
        }
      }
      guard let message = try? RaftMessage(decoding: bytes) else { continue }
      decoded += 1
      #expect(message.encoded() == bytes)
    }
    #expect(decoded > 100)
  }

  @Test func `damaged messages that decode never trap the server`() {
    var generator = SeededGenerator(seed: 12)
    var bench = RaftBench()
    bench.elect("n1")
    for round in 0..<4000 {
      let message = Self.message(Self.bodies[round % Self.bodies.count])
      var bytes = RaftMessage(cluster: RaftBench.tag, term: bench["n1"].term, body: message.body).encoded()
      bytes[9 + generator.index(below: bytes.count - 9)] = UInt8(truncatingIfNeeded: generator.next())
      guard let damaged = try? RaftMessage(decoding: bytes) else { continue }
      let server = generator.chance(0.5) ? "n1" : "n2"
      bench.feed(server, .received(damaged, from: name("n3")))
      bench.mail = []
      if round % 50 == 0 { bench.timeout(server) }
    }
  }

  @Test func `SHA-256 gives the digests of FIPS 180-4`() {
    #expect(
      SHA256.digest(of: []).description == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    #expect(
      SHA256.digest(of: Array("abc".utf8)).description
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    let long = Array("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq".utf8)
    #expect(
      SHA256.digest(of: long).description == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
    for cut in 0...long.count {
      var hash = SHA256()
      hash.update(long[..<cut])
      hash.update(long[cut...])
      #expect(hash.finish() == SHA256.digest(of: long))
    }
  }
}
