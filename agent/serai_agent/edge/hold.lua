-- Holds a request while its API has no ready replica, and hands it over when a reload retires
-- this process: the old process never hears of servers added to the new one.
local routes = Map.new(os.getenv("SERAI_ROUTE_MAP"), Map._beg)
local STEP_MS, LONGEST_STEP_MS = 50, 1000
local LOOKS_PER_S = 2000
local WINDOW_S = 0.25
local BLIND = string.sub(core.get_info().version or "", 1, 4) ~= "2.6."

local function fields(route)
  local parts = {}
  for part in string.gmatch(route .. "|", "([^|]*)|") do
    parts[#parts + 1] = part
  end
  return parts
end

local function serves(txn, backend)
  return backend ~= nil and backend ~= "" and (tonumber(txn.c:nbsrv(backend)) or 0) > 0
end

local function now_seconds()
  local now = core.now()
  return now.sec + now.usec / 1000000
end

-- Returns the backend and version to use now, if any. A request that names its version waits for
-- that version; any other one takes what has a share of the traffic and is ready.
local function choose(txn, route, pin)
  local main, main_version, other, other_version = route[3], route[12], route[4], route[13]
  local pins_main, pins_other = pin == main_version, other ~= "" and pin == other_version
  if not pins_other and serves(txn, main) then
    return main, main_version
  end
  if not pins_main and (pins_other or tonumber(route[5]) > 0) and serves(txn, other) then
    return other, other_version
  end
end

-- HAProxy 2.8 does not always notice that a held client hangs up (2.6 does), so the kernel's list of
-- connections is asked: a piece at a time, since nothing else happens in this thread meanwhile, and
-- for at most a tenth of the time.
local LISTS = { "/proc/net/tcp", "/proc/net/tcp6" }
local PIECE, PAUSE_S, SHARE = 16384, 1, 10
local CLOSE_WAIT = "08"
local list = { states = {}, at_s = -1, due_s = 0 }

local function note(text, port)
  local line = "\n%s*%d+: %x+:" .. port .. " (%x+):(%x+) (%x+)"
  for address, there, state in string.gmatch(text, line) do
    list.found[string.sub(address, -8) .. there] = state
  end
end

-- Reads the next piece; the rest of its last line is kept for the next one.
local function read_on(port)
  if list.file == nil then
    list.number = (list.number or 0) + 1
    list.file, list.rest = io.open(LISTS[list.number] or ""), ""
  end
  local piece = list.file and list.file:read(PIECE)
  if piece ~= nil then
    local text = list.rest .. piece
    local whole = string.match(text, ".*()\n") or 0
    note(string.sub(text, 1, whole), port)
    list.rest = string.sub(text, math.max(1, whole))
    return true
  end
  if list.file then
    list.file:close()
  end
  list.file = nil
  return list.number < #LISTS
end

local function connections(port)
  local now_s = now_seconds()
  if now_s < list.due_s then
    return list.states
  end
  if list.begun_s == nil then
    list.begun_s, list.found = now_s, {}
  end
  local before_s = os.clock()
  local goes_on = read_on(port)
  list.due_s = now_s + SHARE * (os.clock() - before_s)
  if not goes_on then
    list.states, list.at_s, list.begun_s, list.number = list.found, list.begun_s, nil, nil
    list.due_s = math.max(list.due_s, now_s + PAUSE_S)
  end
  return list.states
end

-- Returns a function that says whether the client has hung up; nobody knows for IPv6 clients.
local function watcher(txn)
  local a, b, c, d = string.match(tostring(txn.f:src()), "(%d+)%.(%d+)%.(%d+)%.(%d+)$")
  local there, here = tonumber(txn.f:src_port()), tonumber(txn.f:dst_port())
  if a == nil or there == nil or here == nil or not BLIND then
    return function() return false end
  end
  local key = string.format("%02X%02X%02X%02X%04X", d, c, b, a, there)
  local port = string.format("%04X", here)
  local since_s, present = now_seconds(), false
  return function()
    local states = connections(port)
    if list.at_s < since_s then -- it may tell of an earlier connection from the same port
      return false
    end
    local state = states[key]
    present = present or state ~= nil
    return state == CLOSE_WAIT or (present and state == nil)
  end
end

-- The more requests a thread holds, the longer each waits between two looks: a thousand that look 20
-- times a second would leave it no time for anything else.
local pace = { step_ms = STEP_MS, looks = 0, since_s = 0 }

local function next_step_ms()
  local passed_s = now_seconds() - pace.since_s
  pace.looks = pace.looks + 1
  if passed_s >= WINDOW_S then
    local wanted_ms = pace.step_ms * pace.looks / passed_s / LOOKS_PER_S
    pace.step_ms = math.floor(math.min(LONGEST_STEP_MS, math.max(STEP_MS, wanted_ms)))
    pace.looks, pace.since_s = 0, now_seconds()
  end
  return pace.step_ms
end

core.register_action("hold", { "http-req" }, function(txn)
  local key = txn:get_var("txn.key")
  local pin = txn:get_var("txn.pin")
  local before_ms, since_s = tonumber(txn:get_var("txn.held_ms")) or 0, now_seconds()
  local has_left = watcher(txn)
  local seen, route
  -- A client that hangs up may end this function without a further word: the log says `left` then.
  txn:set_var("txn.refused", "left")
  while true do
    if has_left() then
      return act.ABORT
    end
    local waited_ms = before_ms + math.floor((now_seconds() - since_s) * 1000)
    local stopping = txn.f:stopping()
    if stopping == true or stopping == 1 then -- booleans arrive as numbers here
      txn:set_var("txn.held_ms", waited_ms)
      txn:set_var("txn.backend", "handover")
      txn:unset_var("txn.refused")
      return
    end
    local text = routes:lookup(key)
    if text == nil then
      txn:set_var("txn.gone", 1)
      txn:unset_var("txn.refused")
      return
    end
    if text ~= seen then
      seen, route = text, fields(text)
    end
    local backend, version = choose(txn, route, pin)
    if backend ~= nil then
      txn:set_var("txn.backend", backend)
      txn:set_var("txn.version", version)
      txn:unset_var("txn.refused")
      return
    end
    if waited_ms >= (tonumber(route[7]) or 0) then
      txn:set_var("txn.refused", "hold")
      return
    end
    -- A client that has gone away is told by an action that may no longer wait.
    if not pcall(core.msleep, next_step_ms()) then
      return act.ABORT
    end
  end
end)

-- Names why there was no answer: HAProxy has one status for a queue that timed out, when no server
-- was chosen yet, and for a server that cannot be connected to.
local function connecting(txn)
  local server = txn.f:srv_name()
  return server ~= nil and server ~= ""
end

core.register_fetches("busy_code", function(txn)
  return connecting(txn) and "bad_gateway" or "queue_timeout"
end)

core.register_fetches("busy_message", function(txn)
  return connecting(txn) and "no replica could be connected to"
    or "all replicas were busy until the queue's time limit"
end)
