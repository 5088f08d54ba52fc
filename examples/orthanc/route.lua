-- Tells Reacquire of every MR series that has arrived in this Orthanc and that nobody marked as synthetic.
--
-- For the PACS administrator
--   1. Put this file beside orthanc.json and name it there:  "LuaScripts": ["route.lua"]
--   2. Set "StableAge" (seconds without a new image after which a series counts as complete; 60 is usual) and
--      "HttpTimeout" (5: an answer takes milliseconds, and Orthanc waits for it).
--   3. Start Orthanc with three environment variables:
--        REACQUIRE_HOOK_URL    where the API of Reacquire is, e.g. https://reacquire.hospital/v1/hooks/orthanc
--        REACQUIRE_HOOK_TOKEN  the token that the API was given; it is not written here, for files are copied
--        REACQUIRE_SITE        what this Orthanc is called under "sites" in Reacquire's own file
--
-- What is sent is the name of the site and the UIDs of study and series: no image, no name, no date. Reacquire answers
-- at once (202), reads the series by DICOMweb later, and decides by its own rules what to do with it.
--
-- Why the check: what Reacquire stores here becomes a stable series as well. The tags that Orthanc hands to
-- OnStableSeries lack Synthetic Data (0008,001C), so they are read from an instance. Reacquire checks again by itself.
--
-- If Reacquire cannot be reached, Orthanc goes on: the log says "could NOT be announced" with Orthanc's own identifier
-- of the series, whose UIDs Orthanc Explorer shows. It is announced with the next series that becomes stable, unless
-- Orthanc was restarted before. Or announce it by hand, from anywhere:
--   curl -H "Authorization: Bearer TOKEN" -H "Content-Type: application/json" \
--        -d '{"site": "SITE", "study": "STUDY UID", "series": "SERIES UID"}' HOOK_URL

local HOOK_URL = os.getenv('REACQUIRE_HOOK_URL') or 'http://127.0.0.1:8000/v1/hooks/orthanc'
local HOOK_TOKEN = os.getenv('REACQUIRE_HOOK_TOKEN') or ''
local SITE = os.getenv('REACQUIRE_SITE') or 'orthanc'

local SYNTHETIC_DATA, IMAGE_TYPE, MANUFACTURER, MODALITY = '0008-001c', '0008-0008', '0008-0070', '0008-0060'

-- A reader of single tags. Never ParseJson of all tags: deep sequences (every report has them) overrun the stack of
-- Orthanc 1.10's Lua, and the whole server crashes a little later.
local function reader(instance)
  local address = '/instances/' .. instance .. '/content'
  local present = RestApiGet(address) or ''
  return function(tag)
    if not string.find(present, tag, 1, true) then return '' end
    return string.upper(RestApiGet(address .. '/' .. tag) or '')
  end
end

-- Why an instance is not for Reacquire, or nil.
local function reasonAgainst(value)
  if string.find(value(SYNTHETIC_DATA), 'YES', 1, true) then return 'it is marked as synthetic' end
  for word in string.gmatch(value(IMAGE_TYPE), '[^\\]+') do
    word = string.match(word, '^%s*(.-)%s*$')
    if word == 'SYNTHETIC' or word == 'COUNTERFACTUAL' then return 'its image type is that of Reacquire' end
  end
  if string.match(value(MANUFACTURER), '^%s*(.-)%s*$') == 'REACQUIRE' then return 'Reacquire made it' end
  if string.match(value(MODALITY), '^%s*(.-)%s*$') ~= 'MR' then return 'it is no MR series' end
  return nil
end

function AnnounceSeries(seriesId)
  local series = ParseJson(RestApiGet('/series/' .. seriesId))
  local study = ParseJson(RestApiGet('/series/' .. seriesId .. '/study'))
  local reason = reasonAgainst(reader(series['Instances'][1]))
  if reason ~= nil then
    print('Reacquire: series ' .. seriesId .. ' is left alone, ' .. reason)
    return true
  end
  local body = DumpJson({
    site = SITE,
    study = study['MainDicomTags']['StudyInstanceUID'],
    series = series['MainDicomTags']['SeriesInstanceUID'],
  }, true)  -- true: texts stay texts; a UID such as 1.2 must not become a number
  local headers = { ['Content-Type'] = 'application/json' }
  if HOOK_TOKEN ~= '' then headers['Authorization'] = 'Bearer ' .. HOOK_TOKEN end
  local answer = HttpPost(HOOK_URL, body, headers)
  if answer == nil or answer == '' then  -- what Orthanc gives for no answer, and for any answer but 2xx
    print('Reacquire: series ' .. seriesId .. ' could NOT be announced')
    return false
  end
  print('Reacquire: series ' .. seriesId .. ' was announced')
  return true
end

-- Series that Reacquire has not been told of. Orthanc waits meanwhile, so one that fails ends the round and goes last.
local waiting, MOST_WAITING = {}, 10000

local function settled(seriesId)
  -- An error in a script must not stop Orthanc from storing; that a series was deleted meanwhile is one.
  local ok, told = pcall(AnnounceSeries, seriesId)
  if not ok then print('Reacquire: series ' .. seriesId .. ' could NOT be announced: ' .. tostring(told)) end
  if ok and not told and #waiting < MOST_WAITING then table.insert(waiting, seriesId) end
  return told or not ok
end

function OnStableSeries(seriesId, tags, metadata)
  local earlier = #waiting
  while settled(seriesId) and earlier > 0 do
    seriesId, earlier = table.remove(waiting, 1), earlier - 1
  end
end
