import Consensus

/// What the configuration will be once the changes on their way through the log are applied.
///
/// So a change need not wait for the one before it: it is decided on what that one leads to, and its entry names the revision that is
/// foreseen. Should anything come out otherwise, the log refuses it.
struct Foresight {
  private var state: ControlState?
  private var underWay = 0
  /// Grows with everything that did not come as foreseen.
  private var generation: UInt64 = 0

  /// The state to decide the next change on.
  func base(_ current: ControlState) -> ControlState { state ?? current }

  /// A change was put into the log at `place`. Returns what `settle` is to be told.
  mutating func note(_ change: ChangeSet, at place: LogIndex, over current: ControlState) -> UInt64 {
    underWay += 1
    if state == nil, underWay == 1 { state = current }
    // What it was decided on is not what is known now: the next ones are decided on what is there, and refused if that is too little.
    if state?.revision == change.expectedRevision { state?.foresee(change, at: place) } else { state = nil }
    return generation
  }

  /// A change stands as foreseen. Once all do, there is nothing more to foresee.
  mutating func settle(_ noted: UInt64) {
    guard noted == generation else { return }
    underWay -= 1
    if underWay == 0 { state = nil }
  }

  mutating func forget() {
    (state, underWay) = (nil, 0)
    generation &+= 1
  }
}
