import Consensus
import Primitives
import Testing

/// A voter, helpers and a follower that exchange messages at once.
struct FollowerTests {
  struct Server {
    var state = ControlState()
    var recent = RecentEntries(after: ControlState().head)
    var states = StateServer()
    /// Changes the entries it gives away, as a liar would.
    var lies = false

    mutating func commit(_ number: UInt64) throws {
      let command = change(["o\(number % 50)": "value \(number)"], request: number)
      let entry = LogEntry(index: state.applied.index.next, term: Term(1), payload: .command(command.encoded()))
      _ = try state.apply(entry)
      recent.append(entry, history: state.history)
    }

    mutating func answer(_ message: CatchUpMessage) -> CatchUpMessage? {
      switch message {
      case .pull(let after, let through):
        let answer = recent.answer(after: after, through: through)
        guard lies, case .entries(let entries, let index) = answer, let first = entries.first else { return answer }
        return .entries([LogEntry(index: first.index, term: first.term, payload: .noop)] + entries.dropFirst(), after: index)
      case .askHead: return .reached(state.head)
      case .pullState(let index, let offset): return states.answer(at: index, offset: offset, state: state, now: .zero)
      default: return nil
      }
    }
  }

  struct Bench {
    var voter = Server()
    var helpers: [NodeName: Server] = [:]
    var follower = Follower(local: name("f"), seed: 1)
    var state = ControlState()
    var now = Instant.zero
    var sent: [String: Int] = [:]
    var installs = 0
    var divergences = 0
    var distrusted: [NodeName] = []

    mutating func feed(_ input: Follower.Input, believesAnyone: Bool = false) throws {
      var queue = [input]
      while !queue.isEmpty {
        var effects: [Follower.Effect] = []
        follower.handle(
          queue.removeFirst(), state: state, voters: [name("v")], believesAnyone: believesAnyone, at: now, into: &effects)
        for effect in effects {
          switch effect {
          case .send(let message, let peer):
            #expect(try CatchUpMessage(decoding: message.encoded()) == message)
            sent[peer.string, default: 0] += 1
            let reply = peer == name("v") ? voter.answer(message) : helpers[peer]?.answer(message)
            if let reply {
              #expect(try CatchUpMessage(decoding: reply.encoded()) == reply)
              queue.append(.received(reply, from: peer))
            }
          case .apply(let entries): for entry in entries { _ = try state.apply(entry) }
          case .install(let whole, let diverged):
            state = whole
            installs += 1
            divergences += diverged ? 1 : 0
          case .distrusted(let peer): distrusted.append(peer)
          }
        }
      }
    }

    mutating func announce() throws { try feed(.received(.head(voter.state.head), from: name("v"))) }
  }

  private func bench(_ entries: Int) throws -> Bench {
    var bench = Bench()
    for role in Role.allCases {
      let entry = LogEntry(
        index: bench.voter.state.applied.index.next, term: Term(1), payload: .command(grant(role, "v", 1).encoded()))
      _ = try bench.voter.state.apply(entry)
      bench.voter.recent.append(entry, history: bench.voter.state.history)
    }
    for number in 0..<UInt64(entries) { try bench.voter.commit(number) }
    return bench
  }

  @Test func `a follower takes the entries it lacks`() throws {
    var bench = try bench(10)
    try bench.announce()
    #expect(bench.state == bench.voter.state && bench.installs == 0)
    try bench.voter.commit(11)
    try bench.announce()
    #expect(bench.state == bench.voter.state)
  }

  @Test func `who is far behind takes the whole state`() throws {
    var bench = try bench(3000)
    try bench.announce()
    #expect(bench.state == bench.voter.state && bench.installs == 1 && bench.divergences == 0)
  }

  @Test func `a stranger's word about how far the log is counts for nothing`() throws {
    var bench = try bench(10)
    try bench.feed(.received(.head(bench.voter.state.head), from: name("x")))
    #expect(bench.state == ControlState() && bench.sent.isEmpty)
    try bench.feed(.received(.head(bench.voter.state.head), from: name("v")), believesAnyone: true)
    #expect(bench.state == bench.voter.state)
  }

  @Test func `a stranger's word makes a follower ask the voters it knows, who may be voters no more`() throws {
    var bench = try bench(10)
    try bench.feed(.peers([name("v"), name("x")]))
    try bench.feed(.received(.head(bench.voter.state.head), from: name("x")))
    #expect(bench.state == bench.voter.state && bench.sent["x"] == nil)
    let asked = bench.sent["v"]
    try bench.voter.commit(11)
    try bench.feed(.received(.head(bench.voter.state.head), from: name("x")))
    #expect(bench.sent["v"] == asked, "not again within a second")
  }

  @Test func `in a large cluster any peer gives entries, and a liar's are not taken`() throws {
    var bench = try bench(10)
    let names = (1...20).map { name("p\($0)") }
    for helper in names { bench.helpers[helper] = bench.voter }
    bench.helpers[name("p7")]?.lies = true
    try bench.feed(.peers(names))
    for number in 100..<400 as Range<UInt64> {
      try bench.voter.commit(number)
      for helper in names {
        let lies = bench.helpers[helper]?.lies == true
        bench.helpers[helper] = bench.voter
        bench.helpers[helper]?.lies = lies
      }
      bench.now = bench.now + .milliseconds(10)
      try bench.announce()
      #expect(bench.state == bench.voter.state)
    }
    #expect(bench.distrusted.first == name("p7") && bench.distrusted.allSatisfy { $0 == name("p7") })
    #expect((bench.sent["v"] ?? 0) < 250 && bench.sent.count > 10)
  }

  @Test func `a peer that does not answer is given up for the voter`() throws {
    var bench = try bench(10)
    let names = (1...20).map { name("p\($0)") }
    try bench.feed(.peers(names))
    try bench.announce()
    for _ in 0..<20 where bench.state != bench.voter.state {
      bench.now = bench.now + Follower.patience
      try bench.feed(.tick)
    }
    #expect(bench.state == bench.voter.state)
  }

  @Test func `a history that parted from the voters' is replaced by theirs, and that is said`() throws {
    var bench = try bench(10)
    var other = try self.bench(12)
    try other.voter.commit(99)
    bench.state = other.voter.state
    for number in 500..<510 as Range<UInt64> { try bench.voter.commit(number) }
    try bench.announce()
    #expect(bench.state == bench.voter.state && bench.installs == 1)
  }

  @Test func `a whole state that comes late takes back nothing that the node's own log brought meanwhile`() throws {
    var bench = try bench(3000)
    let late = bench.voter
    var states = StateServer()
    var effects: [Follower.Effect] = []
    bench.follower.handle(
      .received(.head(late.state.head), from: name("v")), state: bench.state, voters: [name("v")], believesAnyone: false,
      at: .zero, into: &effects)
    try bench.voter.commit(1)
    let own = bench.voter.state
    for _ in 0..<100 {
      guard case .send(.pullState(let index, let offset), _)? = effects.last else { break }
      effects = []
      let piece = states.answer(at: index, offset: offset, state: late.state, now: .zero)
      bench.follower.handle(
        .received(piece, from: name("v")), state: own, voters: [name("v")], believesAnyone: false, at: .zero, into: &effects)
    }
    #expect(effects.isEmpty)
  }

  @Test func `messages cut short or made up are refused`() {
    let head = CatchUpMessage.Head(index: LogIndex(7), digest: .zero)
    let messages: [CatchUpMessage] = [
      .head(head), .pull(after: head, through: LogIndex(9)), .unavailable(after: LogIndex(3)),
      .entries([LogEntry(index: LogIndex(4), term: Term(2), payload: .noop)], after: LogIndex(3)),
      .pullState(at: LogIndex(3), offset: 7), .askHead, .reached(head),
      .state(CatchUpMessage.StatePiece(index: LogIndex(3), total: 9, offset: 4, bytes: [1, 2, 3])),
    ]
    for message in messages {
      let bytes = message.encoded()
      for count in 0..<bytes.count { #expect(throws: ByteError.self) { try CatchUpMessage(decoding: Array(bytes[..<count])) } }
      #expect(throws: ByteError.self) { try CatchUpMessage(decoding: bytes + [0]) }
    }
  }
}
