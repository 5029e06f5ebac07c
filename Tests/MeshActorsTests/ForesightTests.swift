import Consensus
import Primitives
import Testing

@testable import MeshActors

/// Changes are decided on what those before them lead to, before the log has decided any of them.
struct ForesightTests {
  private let key = ObjectKey(group: "", kind: "Thing", namespace: "", name: "a")

  private func change(_ text: String, on revision: LogIndex) -> ChangeSet {
    ChangeSet(
      puts: [ObjectPut(key: key, bytes: Array(text.utf8))], expectedRevision: revision,
      requestID: RequestID(high: 0, low: UInt64(text.utf8.count)), epoch: .zero, author: "test")
  }

  private func text(_ state: ControlState) -> String? {
    state.objects[key].map { String(decoding: $0.bytes, as: UTF8.self) }
  }

  @Test func `without a change under way the state is the present one`() {
    var foresight = Foresight()
    let current = ControlState()
    #expect(foresight.base(current).revision == .zero)
    let noted = foresight.note(change("a", on: .zero), at: LogIndex(5), over: current)
    foresight.settle(noted)
    #expect(foresight.base(current).revision == .zero && text(foresight.base(current)) == nil)
  }

  @Test func `each change is decided on what those before it lead to`() {
    var foresight = Foresight()
    let current = ControlState()
    _ = foresight.note(change("a", on: .zero), at: LogIndex(5), over: current)
    #expect(foresight.base(current).revision == LogIndex(5) && text(foresight.base(current)) == "a")
    _ = foresight.note(change("bb", on: LogIndex(5)), at: LogIndex(6), over: current)
    #expect(foresight.base(current).revision == LogIndex(6) && text(foresight.base(current)) == "bb")
    #expect(current.revision == .zero)
  }

  @Test func `foresight lasts until the last change under way stands, in whatever order they are told`() {
    var foresight = Foresight()
    let current = ControlState()
    let noted = [
      foresight.note(change("a", on: .zero), at: LogIndex(5), over: current),
      foresight.note(change("bb", on: LogIndex(5)), at: LogIndex(6), over: current),
    ]
    foresight.settle(noted[1])
    #expect(text(foresight.base(current)) == "bb")
    foresight.settle(noted[0])
    #expect(text(foresight.base(current)) == nil)
  }

  @Test func `a change that was decided on something else ends foresight until all under way are settled`() {
    var foresight = Foresight()
    let current = ControlState()
    let first = foresight.note(change("a", on: .zero), at: LogIndex(5), over: current)
    let second = foresight.note(change("bb", on: LogIndex(3)), at: LogIndex(6), over: current)
    #expect(foresight.base(current).revision == .zero)
    // A third one builds on what is there, which is not what the two will leave: it is not foreseen either.
    let third = foresight.note(change("ccc", on: .zero), at: LogIndex(7), over: current)
    #expect(foresight.base(current).revision == .zero)
    for noted in [first, second, third] { foresight.settle(noted) }
    _ = foresight.note(change("a", on: .zero), at: LogIndex(8), over: current)
    #expect(foresight.base(current).revision == LogIndex(8))
  }

  @Test func `what is told of changes before a disappointment counts for nothing after it`() {
    var foresight = Foresight()
    let current = ControlState()
    let before = foresight.note(change("a", on: .zero), at: LogIndex(5), over: current)
    foresight.forget()
    #expect(foresight.base(current).revision == .zero)
    let after = foresight.note(change("bb", on: .zero), at: LogIndex(9), over: current)
    foresight.settle(before)
    #expect(text(foresight.base(current)) == "bb")
    foresight.settle(after)
    #expect(text(foresight.base(current)) == nil)
  }
}
