-- A PACS that does not take everything, and does not say so (STOW-RS answers 200): of studies called REFUSE it leaves
-- out the second synthetic image.
function ReceivedInstanceFilter(dicom, origin, info)
   return not (dicom['StudyID'] == 'REFUSE' and dicom['InstanceNumber'] == '2'
               and string.find(dicom['SeriesDescription'] or '', 'SYNTHETIC'))
end
