import Consensus
import Primitives
import Testing

/// One test a sentence of Ongaro's thesis, its section in the comment.
struct RaftPaperTests {
  private func elected(_ voters: [String] = ["n1", "n2", "n3"]) -> RaftBench {
    var bench = RaftBench(voters: voters)
    bench.elect("n1")
    return bench
  }

  @Test func `a candidate becomes leader with votes of a majority`() {  // §3.4
    let voters = ["n1", "n2", "n3", "n4", "n5"]
    var bench = RaftBench(voters: voters)
    let members = LogEntry(
      index: LogIndex(1), term: Term(1), payload: .configuration(ClusterConfiguration(voters: voters.map(name))))
    for voter in voters { bench.setDisk(voter, RecoveredState(hardState: HardState(term: Term(1)), entries: [members])) }
    bench.timeout("n1")
    bench.deliver { _, to in to == name("n4") || to == name("n5") }
    #expect(bench["n1"].isLeader)
    #expect(bench["n1"].term == Term(2))
  }

  @Test func `the first leader needs the votes of all first voters`() {
    var bench = RaftBench()
    bench.timeout("n1")
    bench.deliver { _, to in to == name("n3") }
    #expect(!bench["n1"].isLeader, "n3 may hold a history, and n1 and n2 may have lost their disks")
    bench.elect("n1")
    #expect(bench["n1"].isLeader)
  }

  @Test(arguments: [["n1"], ["n1", "n2"]])
  func `a first leader that dies before a majority holds its first entry is followed by another`(_ holders: [String]) {
    var bench = RaftBench(voters: ["n1", "n2", "n3", "n4", "n5"])
    bench.timeout("n1")
    bench.deliver { $0["n1"].isLeader }
    if holders.contains("n2") {
      bench.receive("n2", .append(previous: .zero, entries: bench.log("n1"), commit: .zero), term: 1, from: "n1")
    }
    bench.mail = []
    bench.crash("n1")
    bench.start(name("n1"))
    bench.now = bench.now + .seconds(2)
    bench.elect("n3")
    #expect(!bench["n3"].isLeader, "it lacks an entry that others hold")
    bench.now = bench.now + .seconds(2)
    // With one holder that has to be n1; with two the other does as well, while n1 is down.
    let next = holders.last ?? ""
    if next != "n1" { bench.crash("n1") }
    bench.elect(next)
    #expect(bench[next].isLeader)
    #expect(bench[next].commitIndex == LogIndex(2), "the first entry, and the one that begins the term")
  }

  @Test func `a server that lost its disk votes only once it holds what was decided before`() {
    var bench = elected()
    bench.propose("n1", "a")
    bench.deliver()
    bench.setDisk("n3", RecoveredState())
    bench.receive("n3", .append(previous: .zero, entries: Array(bench.log("n1").prefix(1)), commit: .zero), term: 1, from: "n1")
    bench.crash("n3")
    bench.start(name("n3"))
    bench.now = bench.now + .seconds(1)
    bench.mail = []
    bench.receive("n3", .vote(last: position(1, 1), forced: true), term: 2, from: "n2")
    #expect(
      bench.mail.map(\.message.body) == [.voteReply(granted: false)], "it may have acknowledged more with its earlier disk")
    bench.mail = []
    bench.timeout("n3")
    #expect(bench.mail.isEmpty, "nor does it stand")
    for _ in 0..<2 {
      bench.now = bench.now + .seconds(2)
      bench.elect("n1")
    }
    #expect(bench["n1"].isLeader && bench["n3"].commitIndex == bench["n1"].commitIndex)
    bench.receive("n3", .vote(last: position(9, 9), forced: true), term: 9, from: "n2")
    #expect(bench.mail.map(\.message.body) == [.voteReply(granted: true)])
  }

  @Test func `servers that know of a history begin no other, were they all first voters`() {
    var bench = RaftBench()
    for server in ["n1", "n2", "n3"] { bench.feed(server, .historyKnown) }
    bench.elect("n1")
    #expect(!bench["n1"].isLeader && bench.mail.isEmpty)
    bench.now = bench.now + .seconds(1)
    bench.receive("n2", .vote(last: .zero, forced: false), term: 5, from: "n1")
    #expect(bench.mail.map(\.message.body) == [.voteReply(granted: false)])
  }

  @Test func `without a majority nobody leads`() {  // §3.4
    var bench = RaftBench(voters: ["n1", "n2", "n3", "n4", "n5"])
    for _ in 0..<5 {
      bench.timeout("n1")
      bench.deliver { from, to in [from, to].contains { [name("n3"), name("n4"), name("n5")].contains($0) } }
    }
    #expect(!bench["n1"].isLeader)
    #expect(bench["n1"].term == .zero, "a pre-vote raises no term (§9.6)")
  }

  @Test func `a single voter leads and decides alone`() {
    var bench = RaftBench(voters: ["n1"])
    bench.timeout("n1")
    bench.propose("n1", "a")
    #expect(bench["n1"].isLeader)
    #expect(bench["n1"].commitIndex == LogIndex(2))
  }

  @Test func `each server votes for at most one candidate in a given term`() {  // §3.4
    var bench = RaftBench()
    bench.now = bench.now + .seconds(1)
    bench.receive("n3", .vote(last: .zero, forced: false), term: 5, from: "n1")
    bench.receive("n3", .vote(last: .zero, forced: false), term: 5, from: "n2")
    let answers = bench.mail.map(\.message.body)
    #expect(answers == [.voteReply(granted: true), .voteReply(granted: false)])
    #expect(bench["n3"].vote == name("n1"))
  }

  @Test func `a vote survives a restart`() {  // §3.8
    var bench = RaftBench()
    bench.now = bench.now + .seconds(1)
    bench.receive("n3", .vote(last: .zero, forced: false), term: 5, from: "n1")
    bench.crash("n3")
    bench.start(name("n3"))
    bench.now = bench.now + .seconds(1)
    bench.mail = []
    bench.receive("n3", .vote(last: .zero, forced: false), term: 5, from: "n2")
    #expect(bench.mail.map(\.message.body) == [.voteReply(granted: false)])
  }

  @Test func `a voter denies its vote if its own log is more up to date`() {  // §3.6.1
    let cases: [(own: [LogEntry], candidate: LogPosition, granted: Bool)] = [
      ([entry(1, 1)], position(1, 1), true),
      ([entry(1, 1)], position(1, 2), true),
      ([entry(1, 1), entry(2, 1)], position(1, 2), true),
      ([entry(1, 1)], position(2, 1), true),
      ([entry(1, 1), entry(2, 1)], position(1, 1), false),
      ([entry(1, 2)], position(1, 1), false),
      ([entry(1, 2)], position(2, 1), false),
    ]
    for (own, candidate, granted) in cases {
      var bench = RaftBench()
      bench.setDisk("n3", RecoveredState(hardState: HardState(term: Term(2)), entries: own))
      bench.now = bench.now + .seconds(1)
      bench.receive("n3", .vote(last: candidate, forced: false), term: 3, from: "n1")
      #expect(bench.mail.map(\.message.body) == [.voteReply(granted: granted)])
    }
  }

  @Test func `what is promised is durable before it is said`() throws {  // §3.8
    var bench = RaftBench()
    bench.now = bench.now + .seconds(1)
    bench.receive("n3", .vote(last: .zero, forced: false), term: 5, from: "n1")
    guard case .persist(let vote) = bench.effects("n3").first else { Issue.record("no vote was persisted"); return }
    #expect(vote.hardState == HardState(term: Term(5), vote: name("n1"), isFounder: true))
    bench.receive("n2", .append(previous: .zero, entries: [entry(1, 5)], commit: .zero), term: 5, from: "n1")
    guard case .persist(let log) = bench.effects("n2").first(where: { if case .persist = $0 { true } else { false } }) else {
      Issue.record("no entry was persisted")
      return
    }
    #expect(log.entries == [entry(1, 5)])
    #expect(log.hardState?.term == Term(5))
    guard case .send = bench.effects("n2").last else { Issue.record("the answer is not last"); return }
  }

  @Test func `a message of an older term changes nothing`() {  // §3.3
    var bench = elected()
    let before = bench["n2"]
    bench.receive("n2", .append(previous: .zero, entries: [entry(1, 0)], commit: LogIndex(9)), term: 0, from: "n3")
    #expect(bench["n2"] == before)
    #expect(bench.mail.map(\.message.term) == [Term(1)], "the sender learns the present term")
  }

  @Test func `a leader steps down when it learns of a newer term`() {  // §3.3
    var bench = elected()
    bench.receive("n1", .appendReply(.matched(.zero)), term: 7, from: "n2")
    #expect(!bench["n1"].isLeader)
    #expect(bench["n1"].term == Term(7))
    #expect(bench.effects("n1").contains(.steppedDown(Term(1))))
  }

  @Test func `a second answer of one voter does not count`() {
    var bench = RaftBench(voters: ["n1", "n2", "n3", "n4", "n5"])
    bench.timeout("n1")
    bench.mail = []
    for _ in 0..<3 { bench.receive("n1", .preVoteReply(granted: true), term: 1, from: "n2") }
    #expect(bench["n1"].term == .zero)
  }

  @Test func `votes of servers that are no voters do not count`() {  // §4.2.2
    var bench = RaftBench()
    bench.timeout("n1")
    bench.mail = []
    bench.receive("n1", .preVoteReply(granted: true), term: 1, from: "stranger")
    #expect(bench["n1"].term == .zero)
  }

  @Test func `learners are replicated to and not counted`() {  // §4.2.1
    var bench = RaftBench(voters: ["n1", "n2", "n3"], learners: ["n4"])
    bench.elect("n1")
    bench.propose("n1", "a")
    bench.deliver { _, to in to == name("n2") || to == name("n3") }
    #expect(bench.log("n4").count == 2)
    #expect(bench["n1"].commitIndex == LogIndex(1))
    bench.timeout("n4")
    #expect(bench["n4"].status.duty == .learner)
  }

  @Test func `a leader never overwrites or deletes entries in its own log`() {  // §3.5, leader append-only
    var bench = elected()
    bench.propose("n1", "a")
    let log = bench.log("n1")
    bench.receive("n1", .append(previous: .zero, entries: [entry(1, 1, "x")], commit: .zero), term: 1, from: "n2")
    #expect(bench.log("n1") == log)
  }

  @Test func `what lies before the commit index is acknowledged and not compared`() {
    var bench = elected()
    bench.propose("n1", "a")
    bench.deliver()
    bench.receive("n2", .append(previous: .zero, entries: [entry(1, 9), entry(2, 9)], commit: .zero), term: 9, from: "n3")
    #expect(bench.mail.map(\.message.body) == [.appendReply(.matched(LogIndex(2)))])
    #expect(bench.log("n2").map(\.term) == [Term(1), Term(1)])
  }

  @Test func `a leader's log that contradicts what is decided stops the server`() {
    var bench = elected()
    bench.propose("n1", "a")
    bench.deliver()
    bench.receive("n2", .append(previous: position(2, 8), entries: [entry(3, 9)], commit: .zero), term: 9, from: "n3")
    #expect(bench["n2"].status.duty == .stopped)
    #expect(bench.effects("n2").contains(.failed(.committedConflict(position(2, 8)))))
  }

  @Test func `a failed write stops the server for good`() {
    var bench = elected()
    bench.feed("n1", .storageFailed)
    #expect(bench["n1"].status.duty == .stopped)
    #expect(bench.effects("n1").contains(.failed(.storage)))
    #expect(bench.effects("n1").contains(.steppedDown(Term(1))))
    bench.propose("n1", "a")
    guard case .rejected(_, .notLeader) = bench.effects("n1").first else { Issue.record("not refused"); return }
    bench.receive("n1", .vote(last: position(9, 9), forced: true), term: 9, from: "n2")
    #expect(bench.effects("n1").isEmpty)
  }

  @Test func `a read is answered after a majority confirmed the leader`() {  // §6.4
    var bench = elected()
    bench.feed("n1", .read(RequestToken(7)))
    #expect(!bench.effects("n1").contains(.readReady(RequestToken(7), LogIndex(1))))
    bench.deliver { _, to in to == name("n3") }
    #expect(bench.trace.contains("n1: read #7 at 1"))
  }

  @Test func `a leader cut off answers no read`() {  // §6.4
    var bench = elected()
    bench.feed("n1", .read(RequestToken(7)))
    bench.mail = []
    for _ in 0..<12 {
      bench.timeout("n1")
      bench.mail = []
    }
    #expect(!bench["n1"].isLeader)
    #expect(!bench.trace.contains { $0.hasPrefix("n1: read") })
    #expect(bench.trace.contains { $0.hasPrefix("n1: rejected #7") })
  }

  @Test func `a leader holds its lease only as long as nobody else can have been elected`() {  // §6.4.1
    var bench = elected()
    bench.now = bench.now + .milliseconds(75)
    bench.feed("n1", .tick)
    let sent = bench.now
    bench.now = bench.now + .milliseconds(30)
    bench.deliver()
    #expect(bench["n1"].holdsLease(at: sent + .milliseconds(399)))
    #expect(!bench["n1"].holdsLease(at: sent + .milliseconds(400)), "counted from when the heartbeat was sent")
  }

  @Test func `messages of another cluster are ignored`() {
    var bench = elected()
    let before = bench["n2"]
    let foreign = RaftMessage(
      cluster: ClusterTag(clusterName: "other"), term: Term(99), body: .heartbeat(commit: LogIndex(1), round: 1))
    bench.feed("n2", .received(foreign, from: name("n3")))
    #expect(bench["n2"] == before)
  }

  @Test(arguments: [UInt64(1) << 62, 1 << 63, .max])
  func `a jump of the term or an index to the end of the numbers traps nothing`(_ huge: UInt64) {
    var bench = elected()
    let far = LogPosition(index: LogIndex(huge), term: Term(huge))
    let bodies: [RaftMessage.Body] = [
      .append(previous: far, entries: [entry(huge, huge)], commit: LogIndex(huge)), .appendReply(.matched(LogIndex(huge))),
      .appendReply(.conflict(at: LogIndex(huge), hint: far)), .heartbeat(commit: LogIndex(huge), round: huge),
      .heartbeatReply(round: huge), .vote(last: far, forced: true), .preVote(last: far), .timeoutNow,
      .snapshotReply(at: far, offset: .max),
      .snapshotChunk(
        SnapshotChunk(
          position: far, configuration: ClusterConfiguration(), digest: .zero, total: .max, offset: .max, bytes: [1])),
    ]
    for server in ["n1", "n2"] {
      for body in bodies {
        for term in [1, huge] { bench.receive(server, body, term: term, from: "n3") }
      }
      bench.timeout(server)
    }
    #expect(bench["n1"].term <= Term(1 << 62))
  }

  @Test func `proposals beyond the bound are refused while no majority answers`() {
    var settings = RaftSettings()
    settings.uncommittedBytesMax = 100
    var bench = RaftBench(settings: settings)
    bench.elect("n1")
    bench.propose("n1", String(repeating: "x", count: 60))
    bench.propose("n1", String(repeating: "x", count: 60))
    #expect(bench.trace.last { $0.contains("rejected") }?.contains("overloaded") == true)
    bench.deliver()
    bench.propose("n1", String(repeating: "x", count: 60))
    guard case .accepted = bench.effects("n1").first else { Issue.record("not accepted after the commit"); return }
  }

  @Test func `a change that would lose the quorum is refused`() {  // §4.1
    var bench = elected()
    for _ in 0..<8 {
      bench.timeout("n1")
      bench.deliver { from, to in from == name("n3") || to == name("n3") }
    }
    bench.feed("n1", .changeConfiguration(RequestToken(1), .remove(name("n2"))))
    #expect(bench.effects("n1").contains(.rejected(RequestToken(1), .wouldLoseQuorum)))
    bench.feed("n1", .changeConfiguration(RequestToken(2), .remove(name("n3"))))
    #expect(bench["n1"].status.configuration.voters == [name("n1"), name("n2")])
  }

  @Test func `a server that has not answered this leader does not count as live in a change`() {  // §4.1
    var bench = elected(["n1", "n2", "n3", "n4", "n5"])
    bench.crash("n1")
    bench.crash("n5")
    bench.now = bench.now + .seconds(2)
    bench.elect("n2")
    #expect(bench["n2"].isLeader)
    bench.feed("n2", .changeConfiguration(RequestToken(5), .remove(name("n3"))))
    #expect(bench.effects("n2").contains(.rejected(RequestToken(5), .wouldLoseQuorum)), "of n1, n2, n4 and n5 two are down")
  }

  @Test func `one membership change at a time`() {  // §4.1
    var bench = elected()
    bench.feed("n1", .changeConfiguration(RequestToken(1), .addLearner(name("n4"))))
    bench.feed("n1", .changeConfiguration(RequestToken(2), .addLearner(name("n5"))))
    #expect(bench.effects("n1").contains(.rejected(RequestToken(2), .changeInProgress)))
  }

  // MARK: Disks

  @Test func `a follower whose disk lost what it had acknowledged gets it again from the same leader`() {
    var bench = elected()
    for text in ["a", "b", "c", "d"] { bench.propose("n1", text) }
    bench.deliver()
    var disk = RecoveredState(hardState: HardState(term: Term(1)), entries: Array(bench.log("n3").prefix(2)))
    disk.healUntil = LogIndex(5)
    bench.setDisk("n3", disk)
    bench.trace = []
    for _ in 0..<3 {
      bench.timeout("n1")
      bench.deliver()
    }
    #expect(bench.log("n3") == bench.log("n1") && bench["n3"].healUntil == nil)
    #expect(bench.trace.count < 60, "and they do not go on asking each other")
  }

  @Test func `a server whose disk is full promises nothing until there is room, and loses nothing that it promised`() {
    var bench = elected()
    bench.propose("n1", "a")
    bench.deliver()
    let before = bench.log("n2")
    bench.feed("n2", .storageFull)
    #expect(bench["n2"].status.duty == .stopped)
    bench.propose("n1", "b")
    bench.deliver()
    #expect(bench.log("n2") == before && bench["n1"].commitIndex == LogIndex(3), "the others go on")
    bench.setDisk("n2", RecoveredState(hardState: HardState(term: Term(1), vote: name("n1")), entries: before))
    bench.timeout("n1")
    bench.deliver()
    #expect(bench.log("n2") == bench.log("n1"))
  }

  @Test func `a leader whose disk is full steps down, and its requests are refused`() {
    var bench = elected()
    bench.feed("n1", .storageFull)
    #expect(bench.effects("n1").contains(.steppedDown(Term(1))))
    bench.propose("n1", "a")
    #expect(bench.trace.last?.contains("rejected") == true)
    for server in ["n2", "n3"] { bench.feed(server, .peerUnreachable(name("n1"))) }
    bench.elect("n2")
    #expect(bench["n2"].isLeader)
  }

  @Test func `a member that does not answer for long is absent, whatever else is heard of it`() throws {
    var bench = elected()
    #expect(bench["n1"].status.absentMembers(at: bench.now).isEmpty)
    for _ in 0..<20 {
      bench.timeout("n1")
      bench.deliver { from, _ in from == name("n3") }
    }
    #expect(bench["n1"].status.absentMembers(at: bench.now) == [name("n3")])
  }
}
