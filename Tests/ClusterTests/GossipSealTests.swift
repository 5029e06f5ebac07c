import Consensus
import Membership
import Primitives
import Testing
import Transport

@testable import Cluster

struct GossipSealTests {
  private let secret = [UInt8](repeating: 7, count: 32)
  private func seal(_ secret: [UInt8]?, life: UInt64 = 1, cluster: String = "test") throws -> GossipSeal {
    GossipSeal(joinSecret: secret, cluster: try DNSLabel(cluster), life: life)
  }
  private func message(_ sender: String = "n1") throws -> SWIMMessage {
    SWIMMessage(sender: try NodeName(sender), registryDigest: 7, body: .gossip)
  }
  private func key(_ id: UInt8) -> GossipKey { GossipKey(id: id, bytes: [UInt8](repeating: id, count: GossipKey.byteCount)) }
  private let later = Instant(nanoseconds: 100_000_000_000)

  @Test func `what one node seals another opens, once`() throws {
    let (a, b) = (try seal(secret), try seal(secret))
    let datagram = try #require(a.seal(try message().encoded(), at: later))
    #expect(try b.open(datagram[...]) == message())
    #expect(b.open(datagram[...]) == nil)
    #expect(b.replays == 1 && b.strangers == 0)
  }

  @Test func `a datagram of a sender's earlier life is a replay`() throws {
    let (old, new, other) = (try seal(secret, life: 1), try seal(secret, life: 2), try seal(secret))
    let captured = try #require(old.seal(try message().encoded(), at: later))
    _ = other.open(try #require(new.seal(try message().encoded(), at: later))[...])
    #expect(other.open(captured[...]) == nil && other.replays == 1)
  }

  @Test func `strangers, other clusters and changed bytes are not opened`() throws {
    let here = try seal(secret)
    let datagram = try #require(here.seal(try message().encoded(), at: later))
    #expect(try seal([UInt8](repeating: 8, count: 32)).open(datagram[...]) == nil)
    #expect(try seal(secret, cluster: "other").open(datagram[...]) == nil)
    for at in datagram.indices {
      var changed = datagram
      changed[at] ^= 1
      #expect(try seal(secret).open(changed[...]) == nil)
      #expect(try seal(secret).open(datagram[..<at]) == nil)
    }
  }

  @Test func `while a key is replaced both are accepted, and the third shuts the first out`() throws {
    let (ahead, behind) = (try seal(secret), try seal(secret))
    ahead.take([key(2)], at: later)
    // It has not had time to spread: the old one is still used, and who lacks the new one understands.
    #expect(behind.open(try #require(ahead.seal(try message().encoded(), at: later))[...]) != nil)
    let spread = later + .seconds(6)
    let sealed = try #require(ahead.seal(try message().encoded(), at: spread))
    #expect(behind.open(sealed[...]) == nil)
    behind.take([key(2)], at: spread)
    #expect(behind.open(sealed[...]) != nil)
    let first = try #require(try seal(secret, life: 9).seal(try message().encoded(), at: later))
    ahead.take([key(2), key(3)], at: spread)
    #expect(ahead.open(first[...]) == nil)
  }

  @Test func `a node without the join secret is silent until the log gives it a key, and then uses it at once`() throws {
    let joined = try seal(nil)
    #expect(joined.seal(try message().encoded(), at: later) == nil)
    joined.take([key(2)], at: later)
    let member = try seal(secret)
    member.take([key(2)], at: .zero)
    #expect(member.open(try #require(joined.seal(try message().encoded(), at: later))[...]) != nil)
  }

  @Test func `datagrams that overtake each other are all new, for as long as the window reaches`() throws {
    var window = ReplayWindow()
    let sender = try NodeName("n1")
    var generator = SeededGenerator(seed: 3)
    var numbers = Array(UInt64(1)...64)
    generator.shuffle(&numbers)
    func accepts(_ life: UInt64, _ number: UInt64) -> Bool { window.accepts(.init(life: life, number: number), from: sender) }
    for number in numbers {
      let isNew = accepts(1, number)
      #expect(isNew)
    }
    let repeated = numbers.filter { accepts(1, $0) }
    #expect(repeated.isEmpty)
    let later = [accepts(1, 1000), accepts(1, 900), accepts(2, 1)]
    #expect(later == [true, false, true])
  }
}

struct JoinTokenTextTests {
  private func token(_ common: JoinTokenText.Common = JoinTokenText.Common()) throws -> JoinTokenText {
    let contacts = [Seed(name: try NodeName("n1"), address: NodeAddress(host: "127.0.0.1", port: 15010))]
    return JoinTokenText(
      cluster: try DNSLabel("bookinfo"), trustDomain: "cluster.local", voters: 3, ports: [1, 2, 3, 4, 5], contacts: contacts,
      common: common)
  }

  @Test func `a token survives being carried, line ends included`() throws {
    let token = try token()
    #expect(try JoinTokenText(parsing: " \(token.text)\n") == token)
    #expect(token.key.count == JoinToken.verifierBytes && !token.text.contains(hexString(token.key)))
  }

  private static var other: JoinTokenText.Common {
    var common = JoinTokenText.Common()
    common.domain = "mesh.example.com"
    common.isolatesTenants = true
    return common
  }

  @Test func `a token tells what all nodes have in common, and is no longer where that is as everywhere`() throws {
    let told = try JoinTokenText(parsing: token(Self.other).text)
    #expect(told.common == Self.other)
    #expect(try token().text.utf8.count < told.text.utf8.count)
  }

  @Test(arguments: [JoinTokenText.Common(), other])
  func `a token that is not whole is refused`(common: JoinTokenText.Common) throws {
    let text = try token(common).text
    for count in 0..<text.utf8.count {
      #expect(throws: (any Error).self) { try JoinTokenText(parsing: String(text.prefix(count))) }
    }
    #expect(throws: (any Error).self) { try JoinTokenText(parsing: text.replacing("mesh1-", with: "mesh1-00")) }
  }
}
